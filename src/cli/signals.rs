//! Ctrl-C, SIGTERM and SIGHUP, as futures; on Windows Ctrl-C, Ctrl-Break, a closed window and a
//! shutdown.
//!
//! A closed terminal (SIGHUP) asks a run to stop as SIGTERM does: what it has bought is saved
//! either way. `nohup` and its like start a process that is to outlive its terminal; such a process
//! does not listen for it.

use std::future::Future;
use std::io;

use tokio::sync::oneshot;

use super::exit::Exit;

/// The signals that ask a run to stop.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
    #[cfg(windows)]
    stop: tokio::signal::windows::CtrlBreak,
    #[cfg(windows)]
    close: tokio::signal::windows::CtrlClose,
    #[cfg(windows)]
    shut_down: tokio::signal::windows::CtrlShutdown,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on: the process no longer ends by itself at these signals.
    ///
    /// # Errors
    ///
    /// The system cannot tell us of signals.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hang_up: (!outlives_its_terminal()).then(|| signal(SignalKind::hangup())).transpose()?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next signal, as how a process that stops at it ends.
    pub(super) async fn next(&mut self) -> Exit {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = hang_up => Exit::Terminated,
        }
    }
}

/// Awaits `running`. At the first signal `told` is called and the run asked to stop by `stop`; the
/// answer then says how the process ends.
///
/// # Errors
///
/// The second signal: how the process ends, now.
pub(super) async fn heed<T>(
    signals: &mut Signals,
    mut running: impl Future<Output = T> + Unpin,
    stop: oneshot::Sender<()>,
    mut told: impl FnMut() -> io::Result<()>,
) -> Result<(T, Option<Exit>), Leave> {
    let (mut stop, mut asked_to_stop) = (Some(stop), None);
    loop {
        let exit = tokio::select! {
            ended = &mut running => return Ok((ended, asked_to_stop)),
            exit = signals.next() => exit,
        };
        let Some(stop) = stop.take() else { return Err(Leave::Now(exit)) };
        asked_to_stop = Some(exit);
        told().map_err(Leave::Mute)?;
        // A run that has just ended needs no telling.
        let _ = stop.send(());
    }
}

/// Why a run is not awaited.
#[derive(Debug)]
pub(super) enum Leave {
    /// A second signal came.
    Now(Exit),
    /// What is said of the first cannot be written.
    Mute(io::Error),
}

/// Ready when something is sent; never, if the sender is gone.
pub(super) async fn sent(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether this process was started to ignore SIGHUP. Listening would undo that. Linux says so; for
/// other systems it is taken from `nohup`, which leaves no stream on a terminal.
#[cfg(unix)]
fn outlives_its_terminal() -> bool {
    use std::io::IsTerminal;
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| ignores_hang_up(&status))
        .unwrap_or_else(|| {
            !io::stdin().is_terminal() && !io::stdout().is_terminal() && !io::stderr().is_terminal()
        })
}

/// Whether the process with this `/proc/…/status` ignores signal 1; `None` if it does not say.
#[cfg(unix)]
fn ignores_hang_up(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok().map(|mask| mask & 1 == 1)
}

#[cfg(windows)]
impl Signals {
    /// Listens from now on: the process no longer ends by itself at these events.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self {
            interrupt: ctrl_c()?,
            stop: ctrl_break()?,
            close: ctrl_close()?,
            shut_down: ctrl_shutdown()?,
        })
    }

    /// The next event. After a closed window or at a shutdown the system leaves a few seconds.
    pub(super) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.stop.recv() => Exit::Terminated,
            _ = self.close.recv() => Exit::Terminated,
            _ = self.shut_down.recv() => Exit::Terminated,
        }
    }
}

#[cfg(not(any(unix, windows)))]
impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// The next Ctrl-C.
    pub(super) async fn next(&mut self) -> Exit {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Exit::Interrupted
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_started_is_told_from_what_a_terminal_did() {
        let status = |mask| ignores_hang_up(&format!("Name:\tbatchveo\nSigBlk:\t0001\nSigIgn:\t{mask}\n"));
        assert_eq!(status("0000000000001001"), Some(true));
        assert_eq!(status("0000000000001000"), Some(false));
        assert_eq!(ignores_hang_up("Name:\tbatchveo\n"), None);
    }
}
