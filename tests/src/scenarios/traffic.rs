//! Traffic that tables cannot describe: clients that leave, reloads, other programs.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::scenario::{Amount, Load};
use crate::stage::Stage;
use crate::{drive, sockets, wait};

const EIGHT: Load = Load { clients: 8, keepalive: true };

/// All requests, then silence until nginx has closed its pool.
pub(super) fn until_the_pool_is_empty(stage: &Stage) -> Result<()> {
    drive::in_parallel(stage, EIGHT)?;
    let port = stage.upstream("a")?.port();
    ensure!(sockets::towards(port, sockets::ESTABLISHED) > 0, "no pool");
    wait::until("nginx to close its pool", wait::SOON, || sockets::towards(port, sockets::ESTABLISHED) == 0)
}

/// Clients that close while nginx connects or waits for an answer.
pub(super) fn clients_leave(stage: &Stage) -> Result<()> {
    let upstream = stage.upstream("a")?;
    let dropped = stage.upstream("drop")?.port();
    for case in stage.cases() {
        for _ in 0..stage.count(Amount::AtMost(50)) {
            let before = upstream.requests();
            let mut client = stage.connect()?;
            stage.send(&mut client, case)?;
            wait::until("nginx to wait for the upstream", wait::SOON, || match case.path {
                "/connecting" => sockets::towards(dropped, sockets::SYN_SENT) > 0,
                _ => upstream.requests() > before,
            })?;
            drop(client);
            stage.all_logged()?;
        }
    }
    Ok(())
}

/// Healthy requests, while the stream module meets refusals.
pub(super) fn beside_the_stream_module(stage: &Stage) -> Result<()> {
    let path = stage.directory.path().join("stream.sock");
    for _ in 0..stage.count(Amount::Requests) {
        let mut client = UnixStream::connect(&path).context("connecting to the stream module")?;
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        let count = client.read(&mut [0; 16]).context("reading from the stream module")?;
        ensure!(count == 0, "the stream module answered");
    }
    drive::in_parallel(stage, EIGHT)
}

/// Healthy requests, while another program meets refusals and resets.
pub(super) fn beside_other_programs(stage: &Stage) -> Result<()> {
    use std::io::Write;
    let down: SocketAddr = stage.upstream("down")?.address().parse()?;
    let reset: SocketAddr = stage.upstream("a")?.address().parse()?;
    for _ in 0..stage.count(Amount::Requests) {
        ensure!(TcpStream::connect(down).is_err(), "the port is open");
        let mut client = TcpStream::connect(reset)?;
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        client.write_all(b"GET /rst HTTP/1.1\r\n\r\n")?;
        let _ = client.read_to_end(&mut Vec::new());
    }
    drive::in_parallel(stage, EIGHT)
}

/// Requests on connections of their own, with reloads all the while.
pub(super) fn through_reloads(stage: &Stage) -> Result<()> {
    std::thread::scope(|scope| {
        let load = scope.spawn(|| drive::in_parallel(stage, Load { clients: 8, keepalive: false }));
        let mut reloads = 0;
        while reloads < 2 || (!load.is_finished() && reloads < 5) {
            stage.nginx.reload()?;
            reloads += 1;
        }
        load.join().ok().context("the clients")?
    })
}

/// A reload first: every worker is younger than the tracer.
pub(super) fn after_a_reload(stage: &Stage) -> Result<()> {
    stage.nginx.reload()?;
    drive::in_parallel(stage, EIGHT)
}
