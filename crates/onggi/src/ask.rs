//! Questions to a person. Asked only on a terminal, always on stderr, and never answered by an end of input.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use secrecy::SecretString;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question and reads one line; `None` at the end of input.
pub async fn line(question: &str) -> io::Result<Option<String>> {
    write_question(question)?;
    let read = read_line().await?;
    Ok(read.map(|answer| answer.trim().to_owned()))
}

/// Asks for consent; only `yes` and `y` give it.
pub async fn consent(question: &str) -> io::Result<bool> {
    let answer = line(&format!("{question} [y/N] ")).await?;
    Ok(answer.is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes")))
}

/// Asks for a password without showing it; `None` at the end of input. If this is left while it waits, the terminal
/// shows again what is typed.
pub async fn password(question: &str) -> io::Result<Option<SecretString>> {
    // Before the question: what is typed once it is shown must be neither shown nor thrown away.
    let hidden = Hidden::new()?;
    write_question(question)?;
    let read = read_line().await;
    drop(hidden);
    writeln!(io::stderr())?;
    Ok(read?.map(|answer| answer.trim_end_matches(['\n', '\r']).into()))
}

/// A thread waits, so that Control-C is not kept waiting. `None` at the end of input.
async fn read_line() -> io::Result<Option<Zeroizing<String>>> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let mut answer = Zeroizing::new(String::with_capacity(256));
        let read = io::stdin().lock().read_line(&mut answer);
        let _ = sender.send(read.map(|count| (count > 0).then_some(answer)));
    });
    receiver.await.map_err(io::Error::other)?
}

/// Columns of the terminal that stderr is.
pub fn columns() -> usize {
    tcgetwinsize(io::stderr()).map_or(80, |size| if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) })
}

fn write_question(question: &str) -> io::Result<()> {
    let mut talk = io::stderr().lock();
    talk.write_all(question.as_bytes())?;
    talk.flush()
}

/// As long as it lives, the terminal does not show what is typed.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
