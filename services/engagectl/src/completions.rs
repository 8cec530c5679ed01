//! `engagectl completions`: a script for the shell, made from the definition of the command line.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::cli::Cli;

const NOTES: &str = "\
Where shells look for it: bash in `~/.local/share/bash-completion/completions/engagectl`, zsh in `_engagectl` in a directory of
$fpath, before `compinit`, fish in `~/.config/fish/completions/engagectl.fish`.

Examples:
  source <(engagectl completions bash)
  engagectl completions zsh > \"${fpath[1]}/_engagectl\"
  engagectl completions fish > ~/.config/fish/completions/engagectl.fish";

/// Options of `completions`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The script.
pub(crate) fn script(args: &CompletionsArgs) -> String {
    let mut bytes = Vec::new();
    generate(args.shell, &mut Cli::command(), "engagectl", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_each_shell_knows_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(&CompletionsArgs { shell });
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
            assert!(
                script.contains("no-follow") && script.contains("enriched"),
                "{shell}"
            );
        }
    }
}
