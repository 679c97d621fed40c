//! The process environment, read once into one typed struct per service.
//!
//! Nested names are joined by `__`. A bad value, or an unknown name behind one of our prefixes,
//! stops the start with an error that names the variable. No service reads a variable elsewhere.

mod names;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use config::ConfigError;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, de};

use names::Kind;

/// Passwords that a production start refuses.
const DEFAULT_PASSWORDS: &[&str] = &["password", "guest"];

/// Why the environment cannot be used. Each text names the variable; none shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A name behind one of our prefixes that nothing reads.
    #[error("unknown variable {name}{}", mend(.nearest))]
    Unknown {
        /// The name as it was given.
        name: String,
        /// The known name that comes nearest, if one does.
        nearest: Option<&'static str>,
    },
    /// A variable without a default is not set.
    #[error("variable {name} is not set")]
    Missing {
        /// The variable.
        name: String,
    },
    /// The text does not read as what the variable must be.
    #[error("variable {name}: {problem}")]
    Invalid {
        /// The variable.
        name: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A secret is given twice, by value and by file.
    #[error("variables {name} and {name}_FILE are both set; keep one")]
    BothSet {
        /// The variable that holds the value.
        name: &'static str,
    },
    /// The file of a secret cannot be read.
    #[error("variable {name}_FILE: cannot read {path}")]
    File {
        /// The variable that the file stands in for.
        name: &'static str,
        /// The file's path.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// `ENV=prod` with a password that everybody knows.
    #[error("variable {name} has a default password, which ENV=prod refuses")]
    DefaultPassword {
        /// The variable.
        name: &'static str,
    },
}

fn mend(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| {
        format!(" (the nearest known is {name})")
    })
}

/// Where the process runs: the variable `ENV`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// A developer's machine or a test: default passwords are taken.
    #[default]
    Dev,
    /// Production: default passwords are refused.
    Prod,
}

impl Stage {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "dev" => Some(Self::Dev),
            "prod" => Some(Self::Prod),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Stage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("expected dev or prod, found {text:?}")))
    }
}

/// Where one service listens: its public API and its ops port.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Listen {
    /// The public API. `:8001` stands for `0.0.0.0:8001`.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Health with details, metrics and the operator API; not for the public.
    #[serde(deserialize_with = "address")]
    pub ops_listen: SocketAddr,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    full.parse().map_err(|_| {
        de::Error::custom(format!(
            "expected an address such as 0.0.0.0:8001 or :8001, found {text:?}"
        ))
    })
}

/// Reads the process environment into `T`.
///
/// `T` has lower-case fields; a group such as `db_orders` is a struct. `defaults` are variables in
/// environment notation that stand in where nothing is set, such as `("DB_ORDERS__NAME", "orders_db")`.
/// An empty variable counts as not set.
///
/// # Errors
/// The first fault found; its text names the variable.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the settings"
)]
pub fn read<T: DeserializeOwned>(defaults: &[(&str, &str)]) -> Result<T, EnvError> {
    let mut vars = Vec::new();
    for (name, value) in std::env::vars_os() {
        // A name that is not Unicode is none of ours.
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => vars.push((name, value)),
            Err(_) if names::kind(&name).is_some() || names::is_ours(&name) => {
                return Err(EnvError::Invalid {
                    name,
                    problem: "expected text in UTF-8".to_owned(),
                });
            }
            Err(_) => {}
        }
    }
    read_from(vars, defaults)
}

/// Reads the given variables into `T`, exactly as [`read`] does with those of the process.
///
/// # Errors
/// The first fault found; its text names the variable.
pub fn read_from<T: DeserializeOwned>(
    vars: impl IntoIterator<Item = (String, String)>,
    defaults: &[(&str, &str)],
) -> Result<T, EnvError> {
    let given = with_secret_files(known(vars)?)?;
    let stage = match given.get("ENV") {
        Some(text) => Stage::parse(text).ok_or_else(|| EnvError::Invalid {
            name: "ENV".to_owned(),
            problem: format!("expected dev or prod, found {text:?}"),
        })?,
        None => Stage::default(),
    };
    let mut effective: HashMap<String, String> = defaults
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    effective.extend(given);
    for (name, value) in &effective {
        check_form(name, value)?;
    }

    let mut builder = config::Config::builder();
    for group in names::GROUPS {
        builder = builder
            .set_default(*group, HashMap::<String, String>::new())
            .map_err(from_config)?;
    }
    // No `try_parsing`: it would make the password `0123` a number.
    let source = config::Environment::default()
        .separator("__")
        .source(Some(effective.clone()));
    let config = builder.add_source(source).build().map_err(from_config)?;
    let mut fields = None;
    let value = T::deserialize(Recorded {
        config,
        fields: &mut fields,
    })
    .map_err(from_config)?;
    if stage == Stage::Prod {
        refuse_default_passwords(&effective, fields)?;
    }
    Ok(value)
}

/// Keeps the variables that are ours and set, and refuses what nobody would read.
fn known(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut given = BTreeMap::new();
    for (name, value) in vars {
        if names::kind(&name).is_some() || names::secret_of_file(&name).is_some() {
            if !value.is_empty() {
                given.insert(name, value);
            }
        } else if names::is_ours(&name) {
            let nearest = names::nearest(&name);
            return Err(EnvError::Unknown { name, nearest });
        }
    }
    Ok(given)
}

/// Replaces each `<SECRET>_FILE` by what the file holds, without its last line end.
fn with_secret_files(
    mut given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EnvError> {
    for (name, _) in names::secrets() {
        let Some(path) = given.remove(&format!("{name}_FILE")) else {
            continue;
        };
        if given.contains_key(name) {
            return Err(EnvError::BothSet { name });
        }
        match std::fs::read_to_string(&path) {
            Ok(mut text) => {
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                given.insert(name.to_owned(), text);
            }
            Err(source) => return Err(EnvError::File { name, path, source }),
        }
    }
    Ok(given)
}

/// Refuses a text before a lenient reader makes something else of it (`on` is no port, `0s` no
/// interval).
fn check_form(name: &str, value: &str) -> Result<(), EnvError> {
    let has_value = value.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    let expected = match names::kind(name) {
        Some(Kind::Number) if !(has_value && value.bytes().all(|byte| byte.is_ascii_digit())) => {
            "a whole number from 1 on"
        }
        Some(Kind::Duration) if !has_value => "a duration above zero, such as 500ms or 30s",
        Some(Kind::Switch)
            if !["on", "off", "true", "false", "yes", "no", "1", "0"].contains(&value) =>
        {
            "on or off"
        }
        _ => return Ok(()),
    };
    Err(EnvError::Invalid {
        name: name.to_owned(),
        problem: format!("expected {expected}, found {value:?}"),
    })
}

/// Looks only at the groups that the type asked for: Orders has no business with the password of
/// Payments.
fn refuse_default_passwords(
    effective: &HashMap<String, String>,
    fields: Option<&'static [&'static str]>,
) -> Result<(), EnvError> {
    for (name, default) in names::secrets() {
        let group = name.split("__").next().unwrap_or(name).to_ascii_lowercase();
        let asked = fields.is_none_or(|fields| fields.contains(&group.as_str()));
        let value = effective.get(name).map(String::as_str).or(default);
        if asked && value.is_some_and(|value| DEFAULT_PASSWORDS.contains(&value)) {
            return Err(EnvError::DefaultPassword { name });
        }
    }
    Ok(())
}

/// Turns the reader's error into one that names the variable as it is written in the environment.
fn from_config(error: ConfigError) -> EnvError {
    let variable = |key: Option<String>| {
        key.map_or_else(
            || "of the environment".to_owned(),
            |key| key.replace('.', "__").to_ascii_uppercase(),
        )
    };
    let (name, problem) = match error {
        ConfigError::NotFound(key) => {
            return EnvError::Missing {
                name: variable(Some(key)),
            };
        }
        ConfigError::Type {
            unexpected,
            expected,
            key,
            ..
        } => (
            variable(key),
            format!("expected {expected}, found {unexpected}"),
        ),
        ConfigError::At { error, key, .. } => (variable(key), error.to_string()),
        other => (variable(None), other.to_string()),
    };
    let problem = match names::kind(&name) {
        Some(Kind::Secret { .. }) => "cannot be read".to_owned(),
        _ => problem,
    };
    EnvError::Invalid { name, problem }
}

/// Hands a struct to the configuration and keeps the names of the fields it asked for.
struct Recorded<'a> {
    config: config::Config,
    fields: &'a mut Option<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for Recorded<'_> {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.config.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        *self.fields = Some(fields);
        self.config.deserialize_struct(name, fields, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
