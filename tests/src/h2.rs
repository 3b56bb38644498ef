//! A client that speaks HTTP/2: many requests at once on one connection.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use h2::client;
use http::Request;
use tokio::net::UnixStream;

use crate::wait;

/// Sends all these paths at once over one connection and waits for every answer; gives the status of each, in order.
pub fn exchange_all(socket: &Path, uris: &[String]) -> Result<Vec<u16>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("a runtime")?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.context("connecting to nginx")?;
        let (mut sender, connection) = client::handshake(stream).await.context("the HTTP/2 handshake")?;
        let driver = tokio::spawn(connection);
        let mut answers = Vec::new();
        for uri in uris {
            let request = Request::get(format!("http://lab{uri}")).body(()).context("a request")?;
            sender = sender.ready().await.context("another stream")?;
            let (answer, _) = sender.send_request(request, true).context("sending")?;
            answers.push(answer);
        }
        let mut statuses = Vec::new();
        for answer in answers {
            let answer = answer.await.context("the answer")?;
            statuses.push(answer.status().as_u16());
            let mut body = answer.into_body();
            // A body cut short ends with an error, and that is what it is about.
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).context("flow control")?;
            }
        }
        driver.abort();
        Ok(statuses)
    })
}

/// Sends these paths over one connection, and cancels each once `ready` holds for it.
pub fn cancel_all(socket: &Path, uris: &[String], ready: impl Fn(usize) -> bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.context("connecting to nginx")?;
        let (mut sender, connection) = client::handshake(stream).await.context("the HTTP/2 handshake")?;
        let driver = tokio::spawn(connection);
        for (index, uri) in uris.iter().enumerate() {
            let request = Request::get(format!("http://lab{uri}")).body(()).context("a request")?;
            sender = sender.ready().await.context("another stream")?;
            let (answer, mut stream) = sender.send_request(request, true).context("sending")?;
            let condition = async {
                while !ready(index) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(wait::SOON, condition).await.with_context(|| format!("{uri} reached nobody"))?;
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
        }
        drop(sender);
        driver.await.context("the connection")?.context("the end of the connection")
    })
}
