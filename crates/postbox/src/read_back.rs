//! What the broker has made of our queues: arguments, policies, members. A policy can outdo an
//! argument without any declaration failing, so only the management API can tell.

use std::fmt::Write;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use reqwest::{Client, Url};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::config::BrokerConfig;
use crate::topology::Topology;

const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Nodes that a quorum queue is put on by default, if there are as many when it is declared.
const MEMBERS: usize = 3;

/// What differs from what we declare.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Can lose messages that were confirmed. Asking again repairs it, but nobody wants to live
    /// on that.
    pub(crate) danger: Vec<String>,
    /// Good to know.
    pub(crate) notes: Vec<String>,
}

/// Reads our queues back.
///
/// # Errors
/// In words: that they could not be read.
pub(crate) async fn read_back(
    config: &BrokerConfig,
    topology: &Topology,
) -> Result<Differences, String> {
    let Some(url) = &config.management_url else {
        return Err("policies not checked (RABBITMQ__MANAGEMENT_URL)".into());
    };
    let not_checked = |why: &str| format!("policies not checked: {why}");
    let url = Url::parse(url.expose_secret())
        .map_err(|_| not_checked("RABBITMQ__MANAGEMENT_URL is no URL"))?;
    let client = Client::builder()
        .timeout(ASK_LIMIT)
        .build()
        .map_err(|_| not_checked("no HTTP client"))?;
    let nodes = ask(&client, &url, config, &["api", "nodes"]).await;
    // Only a login with the tag `monitoring` may know.
    let nodes = nodes.ok().and_then(|nodes| Some(nodes.as_array()?.len()));
    let mut differences = Differences::default();
    for (name, arguments) in topology.queues() {
        let queue = ask(
            &client,
            &url,
            config,
            &["api", "queues", &config.vhost, &name],
        )
        .await
        .map_err(|error| not_checked(&error))?;
        differences.compare(&name, &arguments, &queue);
        differences.count_members(&name, nodes, &queue);
    }
    Ok(differences)
}

async fn ask(
    client: &Client,
    url: &Url,
    config: &BrokerConfig,
    path: &[&str],
) -> Result<Value, String> {
    let mut bare = url.clone();
    let login = match (url.username(), url.password()) {
        ("", _) | (_, None) => (
            config.user.clone(),
            config.password.expose_secret().to_owned(),
        ),
        (user, Some(password)) => (user.to_owned(), password.to_owned()),
    };
    // Neither in a log nor in an error: an answer that does not come names its URL.
    let _ = bare.set_username("").and_then(|()| bare.set_password(None));
    bare.path_segments_mut()
        .map_err(|()| "RABBITMQ__MANAGEMENT_URL is no http:// URL".to_owned())?
        .pop_if_empty()
        .extend(path);
    let answer = client
        .get(bare)
        .basic_auth(login.0, Some(login.1))
        .send()
        .await;
    let answer = answer.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("the management API answers {}", answer.status()));
    }
    answer.json().await.map_err(|error| error.to_string())
}

impl Differences {
    fn compare(&mut self, name: &str, arguments: &FieldTable, queue: &Value) {
        for (key, ours) in arguments.inner() {
            let theirs = &queue["arguments"][key.as_str()];
            if *theirs != json(ours) {
                let (key, ours) = (key.as_str(), json(ours));
                self.notes
                    .push(format!("{name} has {key} {theirs}, not {ours}"));
            }
        }
        let policy = queue["effective_policy_definition"].as_object();
        for (key, value) in policy.into_iter().flatten() {
            let text = format!("a policy gives {name} {key} {value}");
            let loses = match key.as_str() {
                // Beats the argument: the oldest messages vanish.
                "overflow" => value != "reject-publish",
                // Vanishes with all that is in it.
                "expires" => true,
                _ => false,
            };
            if loses {
                self.danger.push(format!("{text}: it loses messages"));
            } else {
                self.notes.push(text);
            }
        }
    }

    /// A queue stays on the nodes that were there when it was declared, however many come later.
    fn count_members(&mut self, name: &str, nodes: Option<usize>, queue: &Value) {
        let count = |key: &str| queue[key].as_array().map(Vec::len);
        let Some(members) = count("members") else {
            return;
        };
        if let Some(nodes) = nodes
            && members < nodes.min(MEMBERS)
        {
            self.notes.push(format!(
                "{name} is on {members} of {nodes} nodes and is lost with them: \
                 `rabbitmq-queues grow NODE all` for each node without it"
            ));
        }
        if let Some(online) = count("online")
            && online < members
        {
            self.notes
                .push(format!("{name} has {online} of {members} members online"));
        }
    }

    /// One line of each list; the first is `None` if nothing can be lost.
    pub(crate) fn text(&self) -> (Option<String>, String) {
        let danger = (!self.danger.is_empty()).then(|| self.danger.join("; "));
        let mut notes = self.notes.join("; ");
        if notes.is_empty() {
            let _ = write!(notes, "queues and policies as declared");
        }
        (danger, notes)
    }
}

fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => Value::from(text.to_string()),
        AMQPValue::LongLongInt(number) => Value::from(*number),
        other => Value::from(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Route;
    use serde_json::json;

    const NAME: &str = "letters";

    fn compare(queue: &Value) -> Differences {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1000));
        let mut differences = Differences::default();
        differences.compare(NAME, &arguments, queue);
        differences.count_members(NAME, Some(3), queue);
        differences
    }

    #[tokio::test]
    async fn without_a_way_to_ask_it_says_what_was_not_checked() {
        let route = Route {
            kind: "letter",
            queue: NAME,
        };
        let topology = Topology {
            exchange: "e",
            dead_exchange: "d",
            reads: route,
            sends: route,
        };
        let told = read_back(&BrokerConfig::default(), &topology).await;
        let expected = "policies not checked (RABBITMQ__MANAGEMENT_URL)";
        assert_eq!(told, Err(expected.to_owned()));
    }

    #[test]
    fn what_is_as_declared_is_not_mentioned() {
        let queue = json!({
            "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 1000, "x-other": 1},
            "effective_policy_definition": {},
            "members": ["a", "b", "c"], "online": ["a", "b", "c"],
        });
        assert_eq!(compare(&queue), Differences::default());
    }

    #[test]
    fn a_policy_that_drops_is_a_danger_and_another_a_note() {
        let queue = json!({
            "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 20},
            "effective_policy_definition": {"overflow": "drop-head", "max-length": 5},
            "members": ["a", "b", "c"], "online": ["a", "b"],
        });
        let differences = compare(&queue);
        assert_eq!(
            differences.danger,
            ["a policy gives letters overflow \"drop-head\": it loses messages"]
        );
        assert_eq!(
            differences.notes,
            [
                "letters has x-delivery-limit 20, not 1000",
                "a policy gives letters max-length 5",
                "letters has 2 of 3 members online",
            ]
        );
    }

    #[test]
    fn a_queue_that_is_on_fewer_nodes_than_it_could_be_is_named() {
        let notes = |nodes, members: &[&str]| {
            let mut differences = Differences::default();
            let queue = json!({ "members": members, "online": members });
            differences.count_members(NAME, nodes, &queue);
            differences.notes
        };
        assert_eq!(
            notes(Some(3), &["a"]),
            ["letters is on 1 of 3 nodes and is lost with them: \
              `rabbitmq-queues grow NODE all` for each node without it"]
        );
        let fine = Vec::<String>::new();
        assert_eq!(notes(Some(1), &["a"]), fine, "one node is all there is");
        assert_eq!(notes(Some(5), &["a", "b", "c"]), fine, "three are enough");
        assert_eq!(notes(None, &["a"]), fine, "the login may not know");
    }
}
