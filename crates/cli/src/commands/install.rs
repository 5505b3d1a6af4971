//! `waggle completions` and `waggle man`: files that a package installs next to the program.

use std::process::ExitCode;

use anyhow::Context;

use crate::args::{CompletionsArgs, ManArgs, definition};
use crate::ui::text::printable_path;

/// Prints the completion script of a shell.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "waggle", &mut script);
    super::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes one man page for `waggle` and one for each subcommand.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let out = &args.out;
    std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(definition(), out))
        .with_context(|| format!("cannot write man pages to `{}`", out.display()))?;
    super::print(&format!("Wrote man pages to {}\n", printable_path(out)))?;
    Ok(ExitCode::SUCCESS)
}
