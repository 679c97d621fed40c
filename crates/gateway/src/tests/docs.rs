//! The documentation works without any network but the one to the gateway.

use serde_json::Value;

use super::*;

#[tokio::test]
async fn the_page_and_all_that_it_asks_for_come_from_the_gateway() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for path in ["/docs", "/docs/"] {
        let response = bench.ask(Method::GET, path).await?;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "text/html; charset=utf-8"
        );
        let policy = response.headers()["content-security-policy"].to_str()?;
        assert!(policy.contains("default-src 'none'"), "{policy}");
        let page = response.text().await?;
        assert!(!page.contains("://"), "nothing is loaded from elsewhere");
        let asked: Vec<&str> = page
            .split(['"'])
            .filter(|part| part.starts_with("/docs/assets/"))
            .collect();
        assert_eq!(asked.len(), 4);
        for file in asked {
            let response = bench.ask(Method::GET, file).await?;
            assert_eq!(response.status(), 200, "{file}");
            assert!(response.bytes().await?.len() > 100, "{file}");
        }
    }
    let unknown = bench
        .ask(Method::GET, "/docs/assets/..%2findex.html")
        .await?;
    assert_eq!(unknown.status(), 404);
    Ok(())
}

#[tokio::test]
async fn the_document_is_the_one_that_was_handed_in() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for path in ["/openapi.json", "/openapi.json/"] {
        let response = bench.ask(Method::GET, path).await?;
        assert_eq!(response.headers()["content-type"], "application/json");
        let document: Value = response.json().await?;
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"]["/v1/orders/{order_id}"]["get"].is_object());
        let schemas = &document["components"]["schemas"];
        for schema in ["HTTPValidationError", "ValidationError", "ErrorBody"] {
            assert!(schemas[schema].is_object(), "{schema}");
        }
    }
    Ok(())
}
