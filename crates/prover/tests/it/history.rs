//! What is told of one order.

use anyhow::Result;
use prover::history;

use crate::planted::System;

#[tokio::test]
async fn an_order_s_history_has_a_line_for_each_row_about_it() -> Result<()> {
    let system = System::correct().await?;
    let lines = history(&system.databases, 1).await?;
    let beginnings = [
        "orders: order 1 (00000000-0000-7000-8000-000000000001) of user 7 for 30.00 is FINISHED",
        "orders sends: 00000000-0000-7000-8000-000000000101, sent, attempts: 1",
        "orders took in: 00000000-0000-7000-8000-000000000201, applied",
        "payments took in: 00000000-0000-7000-8000-000000000101, applied",
        "payments decided: paid for 30.00 of user 7",
        "payments booked: charge of -30.00 on user 7",
        "payments sends: 00000000-0000-7000-8000-000000000201, sent, attempts: 1",
    ];
    assert_eq!(lines.len(), beginnings.len(), "{lines:#?}");
    for (line, beginning) in lines.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line:?} is not {beginning:?}");
    }
    assert_eq!(history(&system.databases, 99).await?, Vec::<String>::new());
    Ok(())
}
