//! Where the servers' programs are on this machine.
//!
//! Not here: starting them.

use std::path::{Path, PathBuf};

use crate::variables;

/// What both servers need.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The folder of `initdb` and `postgres`.
    pub(crate) postgres: PathBuf,
    /// The script `rabbitmq-server`.
    pub(crate) rabbitmq: PathBuf,
    /// Erlang's name server; where there is none outside of the broker's own wrapper, the broker starts it.
    pub(crate) epmd: Option<PathBuf>,
}

impl Programs {
    /// # Errors
    /// Names each program that is missing.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let postgres = places("/usr/lib/postgresql", "", "bin")
            .into_iter()
            .find(|folder| is_file(folder, "initdb") && is_file(folder, "postgres"));
        // The one in /usr/sbin insists on being root or the system's user rabbitmq.
        let rabbitmq = places("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin")
            .into_iter()
            .map(|folder| folder.join("rabbitmq-server"))
            .find(|script| script.is_file());
        match (postgres, rabbitmq) {
            (Some(postgres), Some(rabbitmq)) => Ok(Self {
                postgres,
                rabbitmq,
                epmd: find_epmd(),
            }),
            (postgres, rabbitmq) => {
                let mut missing = Vec::new();
                if postgres.is_none() {
                    missing.push("PostgreSQL (initdb and postgres)");
                }
                if rabbitmq.is_none() {
                    missing.push("RabbitMQ (rabbitmq-server)");
                }
                anyhow::bail!("{} not found", missing.join(" and "))
            }
        }
    }
}

/// A Nix shell's folders first (whoever is in one wants its versions), then Debian's newest, then Nix's profiles,
/// then the rest of PATH.
fn places(debian: &str, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let (shell, path): (Vec<PathBuf>, Vec<PathBuf>) = path_folders()
        .into_iter()
        .partition(|folder| folder.starts_with("/nix/store"));
    let mut places = shell;
    places.extend(
        newest_first(Path::new(debian), prefix)
            .into_iter()
            .map(|folder| folder.join(inner)),
    );
    if let Some(home) = std::env::home_dir() {
        places.push(home.join(".nix-profile/bin"));
    }
    places.push("/nix/var/nix/profiles/default/bin".into());
    places.push("/run/current-system/sw/bin".into());
    places.extend(path);
    places
}

fn path_folders() -> Vec<PathBuf> {
    std::env::split_paths(&variables::search_path()).collect()
}

fn newest_first(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?;
            Some((version_key(version)?, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn version_key(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

fn is_file(folder: &Path, name: &str) -> bool {
    folder.join(name).is_file()
}

fn find_epmd() -> Option<PathBuf> {
    let mut folders = path_folders();
    folders.push("/usr/lib/erlang/bin".into());
    // Erlang's own tree has it beside the virtual machine.
    let erl = path_folders()
        .into_iter()
        .map(|folder| folder.join("erl"))
        .find(|erl| erl.is_file())
        .and_then(|erl| erl.canonicalize().ok());
    if let Some(root) = erl.as_deref().and_then(Path::parent).and_then(Path::parent) {
        folders.push(root.join("bin"));
        folders.extend(
            newest_first(root, "erts-")
                .into_iter()
                .map(|folder| folder.join("bin")),
        );
    }
    folders
        .into_iter()
        .map(|folder| folder.join("epmd"))
        .find(|epmd| epmd.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_minor_version_is_newer_than_a_ninth() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["server-3.9.2", "server-3.10.8", "server-old", "other-4.0"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let found = newest_first(folder.path(), "server-");
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["server-3.10.8", "server-3.9.2"]);
    }
}
