//! `waggle completions` and `waggle man`: files that a package installs next to the program.

use std::io;
use std::path::Path;
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
        .and_then(|()| {
            let mut command = definition().disable_help_subcommand(true);
            command.build();
            write_page(command, out)
        })
        .with_context(|| format!("cannot write man pages to `{}`", out.display()))?;
    super::print(&format!("Wrote man pages to {}\n", printable_path(out)))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the man page of `command` and those of its subcommands.
fn write_page(command: clap::Command, out: &Path) -> io::Result<()> {
    for command in command.get_subcommands() {
        write_page(command.clone(), out)?;
    }
    let man = clap_mangen::Man::new(command);
    let mut page = Vec::new();
    man.render(&mut page)?;
    // clap_mangen calls the section after the options, with examples and exit codes, EXTRA.
    let page = String::from_utf8_lossy(&page).replace(".SH EXTRA\n", ".SH NOTES\n");
    std::fs::write(out.join(man.get_filename()), page)
}
