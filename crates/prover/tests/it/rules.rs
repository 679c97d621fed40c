//! Each rule is green on a correct history and red, with the order or user in its example, on one
//! planted violation at a time.

use crate::planted::{Planted, System, assert_broken_by, assert_example, assert_holds};
use anyhow::Result;
use contracts::Money;
use prover::{At, Seen, Verdict, judge};

const CHECKED: [&str; 10] = ["S1", "S2", "S3", "S4", "S5", "S6", "S8", "S9", "S15", "S18"];

fn money(text: &str) -> Money {
    text.parse().expect("an amount")
}

/// What the clients saw of the correct history: order 3 was placed, but its answer was lost.
fn seen() -> Seen {
    let mut seen = Seen::default();
    for (order_id, user_id, amount) in [(1, 7, "30.00"), (2, 8, "50.00")] {
        seen.invoked(user_id, money(amount));
        seen.acknowledged(order_id, user_id, money(amount));
    }
    seen.invoked(9, money("5.00"));
    seen
}

#[tokio::test]
async fn a_correct_history_holds_and_the_rest_is_named() -> Result<()> {
    let system = System::correct().await?;
    for at in [At::Rest, At::Live] {
        for seen in [None, Some(&seen())] {
            let report = judge(&system.databases, at, seen).await?;
            assert!(report.holds(), "{}", report.to_table());
            assert_eq!(report.findings.len(), 25);
            for finding in &report.findings {
                if CHECKED.contains(&finding.id) || finding.id == "rest" && at == At::Rest {
                    assert_holds(finding);
                } else {
                    let not_checked = matches!(finding.verdict, Verdict::NotChecked { .. });
                    assert!(not_checked, "{finding:?}");
                }
            }
        }
    }
    Ok(())
}

/// A violation in the orders database.
fn orders<'a>(in_orders: &'a str, example: &'a str) -> Planted<'a> {
    Planted {
        in_orders,
        in_payments: "",
        example,
    }
}

/// A violation in the payments database.
fn payments<'a>(in_payments: &'a str, example: &'a str) -> Planted<'a> {
    Planted {
        in_orders: "",
        in_payments,
        example,
    }
}

#[tokio::test]
async fn s1_is_broken_by_a_balance_that_is_not_its_ledger() -> Result<()> {
    let violations = [
        payments(
            "update audit.accounts set balance = 75.00 where user_id = 7",
            "user 7: the balance is 75.00, the ledger's sum 70.00",
        ),
        payments(
            "delete from audit.accounts where user_id = 7",
            "user 7: no account, but ledger entries of 70.00 in all",
        ),
    ];
    assert_broken_by("S1", None, &violations).await
}

#[tokio::test]
async fn s1_is_broken_by_money_that_left_without_a_finished_order() -> Result<()> {
    let violations = [
        orders(
            "update audit.orders set status = 'CANCELLED' where order_id = 1",
            "user 7: deposits of 100.00 less FINISHED orders of 0.00 are not the balance of 70.00",
        ),
        orders(
            "update audit.orders set status = 'FINISHED' where order_id = 3",
            "user 9: FINISHED orders of 5.00 and never a deposit",
        ),
    ];
    assert_broken_by("S1", None, &violations).await
}

#[tokio::test]
async fn s2_is_broken_by_a_balance_below_zero_today_or_once() -> Result<()> {
    let violations = [
        payments(
            "update audit.accounts set balance = -0.01 where user_id = 8",
            "user 8: the balance is -0.01",
        ),
        payments(
            "update audit.ledger set entry_id = 3 where kind = 'deposit'",
            "user 7: the entry of -30.00 for order 1 left -30.00",
        ),
    ];
    assert_broken_by("S2", None, &violations).await
}

#[tokio::test]
async fn s3_is_broken_by_a_second_debit() -> Result<()> {
    let violations = [payments(
        "insert into audit.ledger values (3, 7, 'charge', -30.00, uid(1))",
        "order 1: debited 2 times from user 7, 60.00 in all",
    )];
    assert_broken_by("S3", None, &violations).await
}

#[tokio::test]
async fn s4_is_broken_by_a_finished_order_without_its_exact_debit() -> Result<()> {
    let violations = [
        payments(
            "delete from audit.ledger where kind = 'charge'",
            "order 1 of user 7 for 30.00: FINISHED and never debited",
        ),
        payments(
            "update audit.ledger set amount = -30.01 where kind = 'charge'",
            "order 1 of user 7 for 30.00: FINISHED and debited with 30.01",
        ),
        payments(
            "update audit.ledger set user_id = 8 where kind = 'charge'",
            "order 1 of user 7 for 30.00: FINISHED and debited from user 8",
        ),
        payments(
            "insert into audit.ledger values (3, 7, 'charge', -30.00, uid(1))",
            "order 1 of user 7 for 30.00: FINISHED and debited 2 times, 60.00 in all",
        ),
    ];
    assert_broken_by("S4", None, &violations).await
}

#[tokio::test]
async fn s5_is_broken_by_a_cancelled_order_that_was_debited() -> Result<()> {
    let violations = [payments(
        "insert into audit.ledger values (3, 7, 'charge', -50.00, uid(2))",
        "order 2 of user 8 for 50.00: CANCELLED and debited with 50.00",
    )];
    assert_broken_by("S5", None, &violations).await
}

#[tokio::test]
async fn s6_is_broken_by_a_debit_without_its_order() -> Result<()> {
    let violations = [
        orders(
            "delete from audit.orders where order_id = 1",
            "order_uid 00000000-0000-7000-8000-000000000001: 30.00 debited from user 7, no order",
        ),
        payments(
            "insert into audit.ledger values (3, 7, 'charge', -1.00, null)",
            "debit 3 of 1.00 from user 7: no order",
        ),
        Planted {
            in_orders: "update audit.orders set status = 'NEW' where order_id = 1",
            in_payments: "update audit.ledger set amount = -3.00 where kind = 'charge'",
            example: "order 1 of user 7 for 30.00: debited with 3.00",
        },
    ];
    assert_broken_by("S6", None, &violations).await
}

#[tokio::test]
async fn s8_is_broken_by_an_acknowledged_order_that_is_gone_or_another() -> Result<()> {
    let mut seen = seen();
    let violations = [
        orders(
            "delete from audit.orders where order_id = 2",
            "order 2 of user 8 for 50.00: acknowledged and lost",
        ),
        orders(
            "update audit.orders set amount = 51.00 where order_id = 2",
            "order 2 of user 8 for 50.00: acknowledged, and stored for user 8, 51.00",
        ),
    ];
    assert_broken_by("S8", Some(&seen), &violations).await?;
    let system = System::correct().await?;
    seen.acknowledged(2, 8, money("50.00"));
    let finding = system.finding("S8", At::Rest, Some(&seen)).await?;
    assert_example(&finding, "order 2: acknowledged as two different orders");
    Ok(())
}

#[tokio::test]
async fn s8_is_broken_by_traces_of_an_order_that_is_gone() -> Result<()> {
    let violations = [
        orders(
            "delete from audit.orders where order_id = 2",
            "order 2: in the decisions of payments, but no order",
        ),
        orders(
            "insert into audit.outbox values (uid(104), uid(4), true, true, 1)",
            "order_uid 00000000-0000-7000-8000-000000000004: in the outbox of orders, but no order",
        ),
        payments(
            "insert into audit.inbox values (uid(104), uid(4), 'applied')",
            "order_uid 00000000-0000-7000-8000-000000000004: in the inbox of payments, but no order",
        ),
    ];
    assert_broken_by("S8", None, &violations).await
}

#[tokio::test]
async fn s9_is_broken_by_an_order_that_nobody_asked_for() -> Result<()> {
    let violations = [
        orders(
            "insert into audit.orders values (4, uid(4), 7, 30.00, 'CANCELLED')",
            "user 7: 2 orders for 30.00, asked for 1 times; never acknowledged: order 4",
        ),
        orders(
            "insert into audit.orders values (4, uid(4), 7, 30.01, 'CANCELLED')",
            "user 7: 1 orders for 30.01, asked for 0 times; never acknowledged: order 4",
        ),
    ];
    assert_broken_by("S9", Some(&seen()), &violations).await
}

#[tokio::test]
async fn s9_is_broken_by_an_order_that_stands_twice() -> Result<()> {
    let violations = [
        orders(
            "insert into audit.orders values (1, uid(4), 7, 30.00, 'CANCELLED')",
            "order 1: 2 orders with the same order_id",
        ),
        orders(
            "insert into audit.orders values (4, uid(1), 7, 30.00, 'CANCELLED')",
            "order 1: 2 orders with the same order_uid",
        ),
    ];
    assert_broken_by("S9", None, &violations).await
}

#[tokio::test]
async fn s15_is_broken_by_a_second_account() -> Result<()> {
    let violations = [payments(
        "insert into audit.accounts values (8, 0.00)",
        "user 8: 2 accounts, with 0.00, 0.00",
    )];
    assert_broken_by("S15", None, &violations).await
}

#[tokio::test]
async fn s18_is_broken_by_an_amount_that_is_not_exact_money() -> Result<()> {
    let amounts = [
        ("30.001", "order 1: 30.001"),
        ("30", "order 1: 30"),
        ("0.00", "order 1: 0.00"),
        ("-30.00", "order 1: -30.00"),
        ("'NaN'", "order 1: NaN"),
        ("'Infinity'", "order 1: Infinity"),
        ("10000000000000000.00", "order 1: 10000000000000000.00"),
        ("null", "order 1: no amount"),
    ];
    let planting = amounts
        .map(|(amount, _)| format!("update audit.orders set amount = {amount} where order_id = 1"));
    let violations: Vec<Planted<'_>> = planting
        .iter()
        .zip(amounts)
        .map(|(sql, (_, example))| orders(sql, example))
        .collect();
    assert_broken_by("S18", None, &violations).await
}

#[tokio::test]
async fn s18_is_broken_by_an_amount_of_any_column() -> Result<()> {
    let violations = [
        payments(
            "update audit.accounts set balance = 70.001 where user_id = 7",
            "the balance of user 7: 70.001",
        ),
        payments(
            "update audit.payments set amount = 'NaN' where order_id = 1",
            "the decision on order 1: NaN",
        ),
        payments(
            "update audit.ledger set amount = 30.00 where kind = 'charge'",
            "the charge 2 of user 7: 30.00",
        ),
        payments(
            "update audit.ledger set amount = -100.00 where kind = 'deposit'",
            "the deposit 1 of user 7: -100.00",
        ),
        payments(
            "update audit.ledger set kind = 'gift' where kind = 'deposit'",
            "the gift 1 of user 7: 100.00",
        ),
        payments(
            "update audit.ledger set amount = null; update audit.accounts set balance = null",
            "the deposit 1 of user 7: no amount",
        ),
    ];
    assert_broken_by("S18", None, &violations).await
}

#[tokio::test]
async fn an_open_order_and_an_unsent_message_are_no_rest_but_no_fault_under_traffic() -> Result<()>
{
    let system = System::correct().await?;
    system
        .in_orders(
            "update audit.orders set status = 'NEW' where order_id = 1;
             update audit.outbox set sent = false where order_uid = uid(1)",
        )
        .await?;
    let finding = system.finding("rest", At::Rest, None).await?;
    assert_example(&finding, "order 1 for 30.00 is NEW");
    assert_example(
        &finding,
        "message 00000000-0000-7000-8000-000000000101 of orders, order_uid \
         00000000-0000-7000-8000-000000000001, is unsent",
    );
    let report = judge(&system.databases, At::Live, Some(&seen())).await?;
    assert!(report.holds(), "{}", report.to_table());
    let rest = report.finding("rest").expect("every rule is named");
    assert!(
        matches!(rest.verdict, Verdict::NotChecked { .. }),
        "{rest:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_missing_view_is_an_error_and_no_verdict() -> Result<()> {
    let system = System::correct().await?;
    system.in_payments("drop table audit.ledger").await?;
    let error = judge(&system.databases, At::Live, None)
        .await
        .expect_err("it cannot be judged");
    assert_eq!(
        error.to_string(),
        "cannot read the audit views of the payments database"
    );
    Ok(())
}
