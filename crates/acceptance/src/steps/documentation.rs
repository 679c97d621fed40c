//! The page and the document that describe the API.

use std::collections::BTreeSet;

use anyhow::Context;
use cucumber::gherkin;
use cucumber::then;
use serde_json::Value;

use crate::failed::{Step, require};
use crate::steps::api::send;
use crate::world::World;

#[then("it is a page whose every file comes from the system itself")]
async fn a_page_of_its_own(world: &mut World) -> Step {
    let answer = world.answer.as_ref().context("nothing was asked")?;
    let kind = answer
        .headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    require!(
        kind.is_some_and(|kind| kind.starts_with("text/html")),
        "it is {kind:?}"
    );
    let files = files(&answer.body);
    require!(
        files.iter().any(|file| file.ends_with(".js")),
        "the page has no program: {files:?}"
    );
    for file in files {
        require!(!file.contains("//"), "{file} is somewhere else");
        // As a browser does for a page at /docs.
        let path = format!("/{}", file.trim_start_matches("./").trim_start_matches('/'));
        let answer = send(world, "GET", &path, None, None).await?;
        require!(
            answer.status == 200 && !answer.body.is_empty(),
            "{path} is answered with {}",
            answer.status
        );
    }
    Ok(())
}

#[then("it describes these operations, and no others")]
async fn describes_operations(world: &mut World, #[step] step: &gherkin::Step) -> Step {
    let answer = world.answer.as_ref().context("nothing was asked")?;
    let document: Value = serde_json::from_str(&answer.body).context("not JSON")?;
    let version = document["openapi"].as_str().unwrap_or_default();
    require!(version.starts_with("3.1."), "it is OpenAPI {version:?}");
    let table = step.table.as_ref().context("the sentence has no table")?;
    let expected: BTreeSet<(String, String)> = table
        .rows
        .iter()
        .skip(1)
        .filter_map(|row| Some((row.first()?.to_lowercase(), row.get(1)?.clone())))
        .collect();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().context("no paths")? {
        for method in operations.as_object().context("no operations")?.keys() {
            described.insert((method.clone(), path.clone()));
        }
    }
    require!(described == expected, "it describes {described:?}");
    Ok(())
}

/// What the page loads.
fn files(page: &str) -> Vec<String> {
    let mut files = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        for rest in page.split(attribute).skip(1) {
            files.extend(rest.split_once('"').map(|(file, _)| file.to_owned()));
        }
    }
    files
}
