//! Promises of the environment reader, tried on variables given as a list.

use std::time::Duration;

use super::*;

#[derive(Debug, Deserialize)]
struct Database {
    #[serde(default = "user")]
    user: String,
    #[serde(default = "user")]
    password: String,
    name: String,
    #[serde(default = "port")]
    port: u16,
}

fn user() -> String {
    "user".to_owned()
}

fn port() -> u16 {
    5432
}

#[derive(Debug, Deserialize)]
struct Broker {
    #[serde(default)]
    tls: bool,
}

#[derive(Debug, Deserialize)]
struct Service {
    db_orders: Database,
    rabbitmq: Broker,
    orders: Listen,
    #[serde(with = "humantime_serde")]
    redrive_after: Duration,
    #[serde(default)]
    env: Stage,
}

const DEFAULTS: &[(&str, &str)] = &[
    ("DB_ORDERS__NAME", "orders_db"),
    ("ORDERS__LISTEN", "0.0.0.0:8001"),
    ("ORDERS__OPS_LISTEN", "127.0.0.1:9001"),
    ("REDRIVE_AFTER", "30s"),
];

fn service(vars: &[(&str, &str)]) -> Result<Service, EnvError> {
    let vars = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read_from(vars, DEFAULTS)
}

fn refusal(vars: &[(&str, &str)]) -> String {
    service(vars).expect_err("must be refused").to_string()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let service = service(&[]).expect("defaults are enough");
    assert_eq!(service.db_orders.name, "orders_db");
    assert_eq!(service.db_orders.user, "user");
    assert_eq!(service.db_orders.port, 5432);
    assert!(!service.rabbitmq.tls);
    assert_eq!(service.redrive_after, Duration::from_secs(30));
    assert_eq!(service.orders.listen.to_string(), "0.0.0.0:8001");
    assert_eq!(service.env, Stage::Dev);
}

#[test]
fn a_set_variable_replaces_its_default_and_an_empty_one_does_not() {
    let service = service(&[
        ("DB_ORDERS__NAME", "other"),
        ("DB_ORDERS__USER", ""),
        ("RABBITMQ__TLS", "on"),
        ("REDRIVE_AFTER", "500ms"),
        ("ORDERS__LISTEN", ":18001"),
        ("ORDERS__OPS_LISTEN", "localhost:19001"),
        ("HOME", "/home/nobody"),
    ])
    .expect("all are good");
    assert_eq!(service.db_orders.name, "other");
    assert_eq!(service.db_orders.user, "user");
    assert!(service.rabbitmq.tls);
    assert_eq!(service.redrive_after, Duration::from_millis(500));
    assert_eq!(service.orders.listen.to_string(), "0.0.0.0:18001");
    assert_eq!(service.orders.ops_listen.to_string(), "127.0.0.1:19001");
}

#[test]
fn a_password_of_digits_stays_text() {
    for password in ["0123", "true", "1e5", " "] {
        let service = service(&[("DB_ORDERS__PASSWORD", password)]).expect("any text will do");
        assert_eq!(service.db_orders.password, password);
    }
}

#[test]
fn a_bad_value_is_refused_with_the_name_of_its_variable() {
    for (name, value) in [
        ("DB_ORDERS__PORT", "many"),
        ("DB_ORDERS__PORT", "on"),
        ("DB_ORDERS__PORT", "0"),
        ("DB_ORDERS__PORT", "70000"),
        ("ORDERS__LISTEN", "nowhere"),
        ("ORDERS__LISTEN", ":99999"),
        ("REDRIVE_AFTER", "soon"),
        ("REDRIVE_AFTER", "5"),
        ("REDRIVE_AFTER", "0s"),
        ("RABBITMQ__TLS", "perhaps"),
        ("ENV", "production"),
    ] {
        let text = refusal(&[(name, value)]);
        assert!(text.contains(name), "{name}={value} gave {text:?}");
    }
}

#[test]
fn a_variable_without_default_is_named_when_it_is_missing() {
    let vars: [(String, String); 0] = [];
    let error = read_from::<Service>(vars, &DEFAULTS[1..]).expect_err("the name is missing");
    assert_eq!(error.to_string(), "variable DB_ORDERS__NAME is not set");
}

#[test]
fn an_unknown_name_behind_our_prefix_is_refused_with_the_nearest_known() {
    let text = refusal(&[("DB_ORDERS__USERR", "x")]);
    assert!(
        text.contains("DB_ORDERS__USERR") && text.contains("DB_ORDERS__USER)"),
        "{text}"
    );
    assert!(refusal(&[("AUTH__MODE", "jwt")]).contains("AUTH__MODE"));
    assert!(refusal(&[("db_orders__user", "x")]).contains("DB_ORDERS__USER"));
    service(&[("ORDERS_SERVICE_PORT", "tcp://10.0.0.1:80")]).expect("a cluster's own variable");
}

#[test]
fn a_secret_is_read_from_its_file_and_never_given_twice() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("chassis-secret-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder)?;
    let path = folder.join("password");
    std::fs::write(&path, "0123\n")?;
    let file = path.to_str().expect("a path of text").to_owned();
    let read = service(&[("DB_ORDERS__PASSWORD_FILE", &file)]);
    let both = refusal(&[
        ("DB_ORDERS__PASSWORD_FILE", &file),
        ("DB_ORDERS__PASSWORD", "x"),
    ]);
    std::fs::remove_dir_all(&folder)?;
    assert_eq!(read?.db_orders.password, "0123");
    assert!(both.contains("DB_ORDERS__PASSWORD_FILE"), "{both}");
    let gone = refusal(&[("DB_ORDERS__PASSWORD_FILE", &file)]);
    assert!(gone.contains("DB_ORDERS__PASSWORD_FILE"), "{gone}");
    Ok(())
}

#[test]
fn production_refuses_the_default_passwords_of_what_the_service_reads() {
    let own = ("DB_ORDERS__PASSWORD", "kept well");
    let broker = ("RABBITMQ__PASSWORD", "kept too");
    let prod = ("ENV", "prod");
    assert!(refusal(&[prod, broker]).contains("DB_ORDERS__PASSWORD"));
    assert!(refusal(&[prod, own]).contains("RABBITMQ__PASSWORD"));
    assert!(refusal(&[prod, own, ("RABBITMQ__PASSWORD", "guest")]).contains("RABBITMQ__PASSWORD"));
    // The password of Payments is not set, and Orders does not ask for it.
    let service = service(&[prod, own, broker]).expect("all that it reads is set");
    assert_eq!(service.env, Stage::Prod);
}
