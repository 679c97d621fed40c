//! Raw requests and answers, letter for letter: what the API's specification shows.

use anyhow::{Context, ensure};
use cucumber::gherkin;
use cucumber::{given, then, when};
use prover::client::Answer;

use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::world::World;

#[given(regex = r#"^a client has sent ([A-Z]+) "([^"]*)"$"#)]
#[when(regex = r#"^a client sends ([A-Z]+) "([^"]*)"$"#)]
async fn sends(
    world: &mut World,
    method: String,
    path: String,
    #[step] step: &gherkin::Step,
) -> Step {
    let answer = send(world, &method, &path, text_of(step), None).await?;
    world.answer = Some(answer);
    Ok(())
}

#[when(regex = r#"^a client sends ([A-Z]+) "([^"]*)" with the header "([^":]*): ([^"]*)"$"#)]
async fn sends_with_header(
    world: &mut World,
    method: String,
    path: String,
    name: String,
    value: String,
    #[step] step: &gherkin::Step,
) -> Step {
    let answer = send(world, &method, &path, text_of(step), Some((&name, &value))).await?;
    world.answer = Some(answer);
    Ok(())
}

#[then(regex = r"^the answer is (\d+)$")]
async fn the_answer_is(world: &mut World, status: u16, #[step] step: &gherkin::Step) -> Step {
    let answer = world.answer.as_ref().context("nothing was asked")?;
    Ok(compare(answer, status, text_of(step).as_deref())?)
}

#[given(regex = r#"^in the end ([A-Z]+) "([^"]*)" is answered with (\d+)$"#)]
#[then(regex = r#"^in the end ([A-Z]+) "([^"]*)" is answered with (\d+)$"#)]
async fn in_the_end(
    world: &mut World,
    method: String,
    path: String,
    status: u16,
    #[step] step: &gherkin::Step,
) -> Step {
    let (world, method, path) = (&*world, method.as_str(), path.as_str());
    let expected = text_of(step);
    let expected = expected.as_deref();
    eventually("the answer is as it must be", || async move {
        compare(
            &send(world, method, path, None, None).await?,
            status,
            expected,
        )
    })
    .await?;
    Ok(())
}

#[then(regex = r#"^its header "([^"]*)" is "([^"]*)"$"#)]
async fn header_is(world: &mut World, name: String, value: String) -> Step {
    let found = header(world, &name)?;
    require!(found == value, "{name} is {found:?}");
    Ok(())
}

#[then(regex = r#"^its header "([^"]*)" names (.*)$"#)]
async fn header_names(world: &mut World, name: String, values: String) -> Step {
    let found = header(world, &name)?;
    let words: Vec<&str> = found.split(',').map(str::trim).collect();
    for value in values.split(" and ").map(str::trim) {
        require!(words.contains(&value), "{name} is {found:?}");
    }
    Ok(())
}

#[then("its request id is the one in the body")]
async fn request_id_is_in_the_body(world: &mut World) -> Step {
    let id = header(world, "x-request-id")?;
    require!(!id.is_empty(), "the id is empty");
    let body = &world.answer.as_ref().context("nothing was asked")?.body;
    require!(
        body.contains(&format!(r#""request_id":"{id}""#)),
        "the id is {id}, and the body is {body}"
    );
    Ok(())
}

#[then("its request id is a new one")]
async fn request_id_is_new(world: &mut World) -> Step {
    let id = header(world, "x-request-id")?;
    require!(
        (8..=128).contains(&id.len()) && id.bytes().all(|sign| sign.is_ascii_graphic()),
        "the id is {id:?}"
    );
    Ok(())
}

fn header(world: &World, name: &str) -> anyhow::Result<String> {
    let headers = &world.answer.as_ref().context("nothing was asked")?.headers;
    let value = headers
        .get(name)
        .with_context(|| format!("the answer has no {name}"))?;
    Ok(value.to_str().context("not text")?.to_owned())
}

/// The text below a sentence.
fn text_of(step: &gherkin::Step) -> Option<String> {
    step.docstring().map(|text| text.trim().to_owned())
}

/// One request through the gateway. A text is sent as JSON.
///
/// # Errors
/// If there is no complete answer.
pub(crate) async fn send(
    world: &World,
    method: &str,
    path: &str,
    body: Option<String>,
    header: Option<(&str, &str)>,
) -> anyhow::Result<Answer> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(crate::eventually::PATIENCE)
        .build()?;
    let method = reqwest::Method::from_bytes(method.as_bytes())?;
    let mut request = http.request(method, format!("{}{path}", world.stack()?.url()));
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body);
    }
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let response = request
        .send()
        .await
        .with_context(|| format!("{path} is not answered"))?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await.context("the answer is cut short")?,
    })
}

/// Letter for letter, but for the request's id, which stands as `…` in the features.
fn compare(answer: &Answer, status: u16, expected: Option<&str>) -> anyhow::Result<()> {
    ensure!(
        answer.status == status,
        "the answer is {} {}",
        answer.status,
        answer.body
    );
    let body = without_request_id(&answer.body);
    if let Some(expected) = expected {
        ensure!(
            body == expected,
            "the answer is\n{body}\nand must be\n{expected}"
        );
    }
    Ok(())
}

fn without_request_id(body: &str) -> String {
    const BEFORE: &str = r#""request_id":""#;
    let Some((begin, rest)) = body.split_once(BEFORE) else {
        return body.to_owned();
    };
    match rest.split_once('"') {
        // An empty id is no id, and must not look like one.
        Some((id, end)) if !id.is_empty() => format!("{begin}{BEFORE}…\"{end}"),
        _ => body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_id_may_differ() {
        let body = r#"{"detail":"Not Found","code":"not_found","request_id":"01-ab"}"#;
        assert_eq!(
            without_request_id(body),
            r#"{"detail":"Not Found","code":"not_found","request_id":"…"}"#
        );
        let empty = r#"{"request_id":""}"#;
        assert_eq!(without_request_id(empty), empty);
        assert_eq!(without_request_id("[]"), "[]");
    }
}

/// A service that only keeps them waiting is answered for by the gateway, with another status.
#[then("customers are told at once to come back later")]
async fn told_to_come_back(world: &mut World) -> Step {
    let order = r#"{"user_id":101,"amount":"1.00","description":"too early"}"#;
    for (method, path, body) in [
        ("POST", "/v1/orders/", Some(order.to_owned())),
        ("GET", "/v1/accounts/101", None),
    ] {
        let answer = world.client()?.send(method, path, body).await.ok()?;
        require!(
            answer.status == 503 && answer.headers.contains_key("retry-after"),
            "{method} {path} is answered {} {}",
            answer.status,
            answer.body
        );
    }
    Ok(())
}
