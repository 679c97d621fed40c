//! The Docker engine, as its own client sees it.
//!
//! Not here: anything that changes what is there.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

/// Whether there is an engine to test with; said aloud if there is none.
pub(crate) fn engine_is_there() -> bool {
    let asked = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .output();
    match asked {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let reason = String::from_utf8_lossy(&output.stderr);
            println!("NOT TESTED in containers: no Docker engine answers: {reason}");
            false
        }
        Err(error) => {
            println!("NOT TESTED in containers: no Docker client: {error}");
            false
        }
    }
}

/// The lines of what `docker` lists.
pub(crate) fn lists(arguments: &[&str]) -> anyhow::Result<Vec<String>> {
    let output = Command::new("docker").args(arguments).output()?;
    ensure!(output.status.success(), "docker {arguments:?} failed");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here: what is waited for is another process"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
