//! Connections that can be broken, and a port that can be closed: faults below HTTP.
//!
//! A handler cannot break the connection it answers on, so each has a switch that its reads and
//! writes obey. An outage closes the port itself, so that connects are refused by the operating
//! system. A listening socket can neither refuse some connects and not others nor make them slow: where
//! a scenario wants that, the connection is made and breaks before its request is read, which leaves a
//! client in doubt where a failed connect would not. In memory there is no such limit.

use std::future::{Future, pending};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::Simulator;
use crate::clock::Clock;
use crate::job::Stamp;

/// How long to wait, on the simulation's clock, after the operating system has refused something.
const PAUSE: Duration = Duration::from_secs(1);

/// Breaks one connection, from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Switch(Arc<State>);

#[derive(Debug, Default)]
struct State {
    broken: AtomicBool,
    /// Who waits for something to read.
    reader: AtomicWaker,
}

impl Switch {
    /// Nothing is read or written from here on, and the connection's owner closes it.
    pub(super) fn break_off(&self) {
        self.0.broken.store(true, Ordering::Release);
        self.0.reader.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.0.broken.load(Ordering::Acquire) {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "broken by the scenario"))
        } else {
            Ok(())
        }
    }
}

impl Connected<IncomingStream<'_, Doorway>> for Switch {
    fn connect_info(stream: IncomingStream<'_, Doorway>) -> Self {
        stream.io().switch.clone()
    }
}

/// A connection with a switch.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    switch: Switch,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Registered before it is checked, so that no break is missed between the two.
        self.switch.0.reader.register(context.waker());
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The port: open, or closed while the scenario lets nobody connect.
#[derive(Debug)]
pub(super) struct Doorway {
    /// `None` while it is closed.
    listener: Option<TcpListener>,
    address: SocketAddr,
    simulator: Simulator,
    /// Connections that may be open, to be broken when the port closes.
    open: Vec<Weak<State>>,
}

impl Doorway {
    /// # Errors
    ///
    /// The listener has no address.
    pub(super) fn new(listener: TcpListener, simulator: Simulator) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener: Some(listener), address, simulator, open: Vec::new() })
    }

    fn close(&mut self) {
        if self.listener.take().is_some() {
            tracing::info!("an outage begins: the port is closed");
        }
        for state in self.open.drain(..).filter_map(|state| state.upgrade()) {
            Switch(state).break_off();
        }
    }

    async fn reopen(&mut self) {
        match TcpListener::bind(self.address).await {
            Ok(listener) => {
                tracing::info!("the outage is over: the port is open");
                self.listener = Some(listener);
            }
            Err(error) => {
                tracing::error!(%error, address = %self.address, "the port cannot be opened again");
                self.simulator.clock.sleep(PAUSE).await;
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream) -> Wire {
        // Small answers wait for nothing.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let switch = Switch::default();
        self.open.retain(|state| state.strong_count() > 0);
        self.open.push(Arc::downgrade(&switch.0));
        Wire { stream, switch }
    }
}

impl Listener for Doorway {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            let (closed, edge) = self.simulator.closure();
            if closed {
                self.close();
            }
            let change = reached(&self.simulator.clock, edge);
            match &self.listener {
                None if closed => change.await,
                None => self.reopen().await,
                Some(listener) => tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, from)) => return (self.welcome(stream), from),
                        Err(error) => {
                            tracing::warn!(%error, "a connection was not accepted");
                            self.simulator.clock.sleep(PAUSE).await;
                        }
                    },
                    () = change => {}
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Waits until `stamp`, or for ever.
fn reached(clock: &Clock, stamp: Option<Stamp>) -> impl Future<Output = ()> + Send + use<> {
    let sleep = stamp.map(|stamp| clock.sleep_until(stamp));
    async move {
        match sleep {
            Some(sleep) => sleep.await,
            None => pending().await,
        }
    }
}
