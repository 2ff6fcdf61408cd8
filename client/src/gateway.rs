//! A provider's gateway: hand a workload over, follow it, fetch what it wrote. Everything that is fetched is checked against the hashes in the
//! output list; [`crate::outputs`] checks the list against the chain.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tenure_proto::tenure::{
    gateway::v1::{
        gateway_client::GatewayClient, submit_request::Part, FetchRequest, InfoRequest, InfoResponse, LogsRequest,
        StatusRequest, StatusResponse, SubmitChunk, SubmitHeader, SubmitRequest,
    },
    market::v1::{Manifest, OutputFile},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{metadata::AsciiMetadataValue, transport::Channel, Request, Status};

use crate::{
    auth::{bearer, manifest_hash, sign_receipt, token, wall_ms, TOKEN_LIFE_MS},
    chain::{ask, channel, CALL_TIMEOUT},
    keys::Key,
    Error, Result,
};

/// Longest piece of a file in one message, bytes.
pub const CHUNK: usize = 1 << 20;
/// How often a transfer is taken up again without any progress.
const TRIES: u32 = 6;
/// A log that follows may be silent; the connection's own keep-alive notices a dead gateway.
const GATEWAY: &str = "the provider's gateway";

/// A file on this machine that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length when it was hashed, bytes.
    pub size: u64,
    /// SHA-256 of its content when it was hashed.
    pub sha256: [u8; 32],
}

/// One lease at its provider's gateway.
#[derive(Debug)]
pub struct Client {
    address: String,
    channel: Channel,
    key: Key,
    chain_id: String,
    lease_id: u64,
    provider: String,
    token: Mutex<Option<(AsciiMetadataValue, u64)>>,
}

impl Client {
    /// The lease's gateway at `endpoint`, as the tenant that has `key`. Connects when first used. Error: the endpoint is malformed.
    pub fn new(endpoint: &str, chain_id: &str, lease_id: u64, provider: &str, key: Key) -> Result<Self> {
        let address = endpoint.trim_end_matches('/').to_owned();
        Ok(Self {
            channel: channel(GATEWAY, &address)?,
            address,
            key,
            chain_id: chain_id.to_owned(),
            lease_id,
            provider: provider.to_owned(),
            token: Mutex::new(None),
        })
    }

    /// The gateway's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who answers. Error (malformed): it is another provider's gateway or another chain's.
    pub async fn info(&self) -> Result<InfoResponse> {
        let info = ask(GATEWAY, &self.address, || {
            let mut client = self.client();
            async move { client.info(InfoRequest {}).await }
        })
        .await?;
        for (field, found, expected) in [
            ("provider", &info.provider, &self.provider),
            ("chain_id", &info.chain_id, &self.chain_id),
        ] {
            if found != expected {
                let detail = format!(
                    "{field} is {found:?}, expected {expected:?}: {} is somebody else's",
                    self.address
                );
                return Err(Error::Malformed { what: GATEWAY, detail });
            }
        }
        Ok(info)
    }

    /// Where the workload stands.
    pub async fn status(&self) -> Result<StatusResponse> {
        let header = self.bearer()?;
        ask(GATEWAY, &self.address, || {
            let mut request = Request::new(StatusRequest {
                lease_id: self.lease_id,
            });
            request.set_timeout(CALL_TIMEOUT);
            request.metadata_mut().insert("authorization", header.clone());
            let mut client = self.client();
            async move { client.status(request).await }
        })
        .await
    }

    /// Hands the workload over, with the signed receipt. `files` are the module and the inputs, in any order; `progress` is told the bytes sent
    /// so far and the bytes in all. A transfer that breaks is begun anew: the gateway takes a hand-over as a whole.
    pub async fn submit(&self, manifest: &Manifest, files: &[LocalFile], progress: impl Fn(u64, u64)) -> Result<()> {
        let receipt = sign_receipt(&self.key, &self.chain_id, self.lease_id, &manifest_hash(manifest));
        let header = SubmitHeader {
            lease_id: self.lease_id,
            manifest: Some(manifest.clone()),
            receipt_signature: receipt.to_vec(),
        };
        let mut pause = Duration::from_millis(300);
        let mut tried = 1;
        loop {
            match self.submit_once(&header, files, &progress).await {
                Err(Error::Unreachable { detail, .. }) if tried < TRIES => {
                    tracing::debug!(detail, tried, "hand-over broke");
                    tried += 1;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                result => return result,
            }
        }
    }

    async fn submit_once(
        &self,
        header: &SubmitHeader,
        files: &[LocalFile],
        progress: &impl Fn(u64, u64),
    ) -> Result<()> {
        let total = files.iter().map(|f| f.size).sum();
        let (parts, receiver) = mpsc::channel::<SubmitRequest>(2);
        let (report, mut reports) = mpsc::unbounded_channel();
        let header = header.clone();
        let files = files.to_vec();
        let reader = tokio::task::spawn_blocking(move || -> Result<()> {
            let send = |part| parts.blocking_send(SubmitRequest { part: Some(part) }).is_ok();
            if !send(Part::Header(header)) {
                return Ok(());
            }
            let mut sent = 0;
            for local in &files {
                let mut file = File::open(&local.path).map_err(Error::file(&local.path))?;
                loop {
                    let mut data = Vec::with_capacity(CHUNK);
                    let read = (&mut file)
                        .take(CHUNK as u64)
                        .read_to_end(&mut data)
                        .map_err(Error::file(&local.path))?;
                    // An empty file still travels as one empty piece, so that the gateway sees it.
                    if read == 0 && local.size != 0 {
                        break;
                    }
                    // The receiver is gone when the gateway has answered early; its answer says why.
                    if !send(Part::Chunk(SubmitChunk {
                        sha256: local.sha256.to_vec(),
                        data,
                    })) {
                        return Ok(());
                    }
                    sent += read as u64;
                    let _ = report.send(sent);
                    if read == 0 {
                        break;
                    }
                }
            }
            Ok(())
        });
        let request = self.signed(ReceiverStream::new(receiver))?;
        let mut client = self.client();
        let answer = async { client.submit(request).await };
        let progressing = async {
            while let Some(sent) = reports.recv().await {
                progress(sent, total);
            }
        };
        let (answer, ()) = tokio::join!(answer, progressing);
        let read = reader.await.map_err(|e| Error::Malformed {
            what: "this client",
            detail: e.to_string(),
        })?;
        // A file that cannot be read ends the stream early; the gateway's complaint about that is not the cause.
        read?;
        answer
            .map(|_| ())
            .map_err(|status| Error::from_status(GATEWAY, &self.address, &status))
    }

    /// Gives the log from `offset` on to `sink`, piece by piece, and returns the offset after the last byte. With `follow` it stays until the
    /// workload ends. A connection that breaks is taken up again at the next byte.
    pub async fn logs(&self, mut offset: u64, follow: bool, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let mut tried = 0;
        loop {
            let before = offset;
            let ended = self.logs_once(&mut offset, follow, &mut sink).await;
            match ended {
                Ok(()) => return Ok(offset),
                Err(Error::Unreachable { detail, .. }) if tried < TRIES || offset > before => {
                    tried = if offset > before { 0 } else { tried + 1 };
                    tracing::debug!(detail, offset, "log broke");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn logs_once(
        &self,
        offset: &mut u64,
        follow: bool,
        sink: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let failed = |status: Status| Error::from_status(GATEWAY, &self.address, &status);
        let request = LogsRequest {
            lease_id: self.lease_id,
            offset: *offset,
            follow,
        };
        let request = self.signed(request)?;
        let mut stream = self.client().logs(request).await.map_err(failed)?.into_inner();
        while let Some(piece) = stream.message().await.map_err(failed)? {
            // A gateway that kept only the log's end sends what it has; what lies before `offset` was seen already.
            let skip = usize::try_from(offset.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
            if let Some(new) = piece.data.get(skip..).filter(|d| !d.is_empty()) {
                sink(new)?;
                *offset = piece.offset.max(*offset) + new.len() as u64;
            }
        }
        Ok(())
    }

    /// Fetches one output into `directory` under its own name, replacing what is there, and checks length and SHA-256 before it appears.
    /// A transfer that breaks goes on where it stopped. Errors: [`Error::Verification`]; the name is not one path component.
    pub async fn fetch(&self, output: &OutputFile, directory: &Path, progress: impl Fn(u64, u64)) -> Result<PathBuf> {
        check_file_name(&output.name).map_err(Error::Verification)?;
        let path = directory.join(&output.name);
        let partial = directory.join(format!(".{}.part", output.name));
        let mut file = File::create(&partial).map_err(Error::file(&partial))?;
        let mut hasher = Sha256::new();
        let mut received = 0_u64;
        let mut tried = 0;
        while let Err(error) = self
            .fetch_once(output, &mut file, &partial, &mut hasher, &mut received, &progress)
            .await
        {
            if !matches!(error, Error::Unreachable { .. }) || tried >= TRIES {
                let _ = std::fs::remove_file(&partial);
                return Err(error);
            }
            tried += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let digest: [u8; 32] = hasher.finalize().into();
        if received != output.size || digest.as_slice() != output.sha256 {
            let _ = std::fs::remove_file(&partial);
            return Err(Error::Verification(format!(
                "output {:?} from {} has {received} bytes with SHA-256 {}; the output list says {} bytes with {}. The file was not kept",
                output.name,
                self.address,
                hex::encode(digest),
                output.size,
                hex::encode(&output.sha256)
            )));
        }
        file.sync_all().map_err(Error::file(&partial))?;
        std::fs::rename(&partial, &path).map_err(Error::file(&path))?;
        Ok(path)
    }

    async fn fetch_once(
        &self,
        output: &OutputFile,
        file: &mut File,
        partial: &Path,
        hasher: &mut Sha256,
        received: &mut u64,
        progress: &impl Fn(u64, u64),
    ) -> Result<()> {
        let failed = |status: Status| Error::from_status(GATEWAY, &self.address, &status);
        let request = FetchRequest {
            lease_id: self.lease_id,
            name: output.name.clone(),
            offset: *received,
        };
        let request = self.signed(request)?;
        let mut stream = self.client().fetch(request).await.map_err(failed)?.into_inner();
        while let Some(piece) = stream.message().await.map_err(failed)? {
            *received += piece.data.len() as u64;
            if *received > output.size {
                return Err(Error::Verification(format!(
                    "output {:?} from {} is longer than the {} bytes in the output list. The file was not kept",
                    output.name, self.address, output.size
                )));
            }
            hasher.update(&piece.data);
            file.write_all(&piece.data).map_err(Error::file(partial))?;
            progress(*received, output.size);
        }
        Ok(())
    }

    fn client(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel.clone())
    }

    fn signed<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer()?);
        Ok(request)
    }

    /// The token, made anew when half of its life is over.
    fn bearer(&self) -> Result<AsciiMetadataValue> {
        let now = wall_ms();
        let mut held = self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((value, made)) = held.as_ref() {
            if (*made..*made + TOKEN_LIFE_MS / 2).contains(&now) {
                return Ok(value.clone());
            }
        }
        let header = bearer(&token(&self.key, &self.chain_id, self.lease_id, &self.provider, now));
        let value = AsciiMetadataValue::try_from(header).map_err(|e| Error::Malformed {
            what: "this client",
            detail: format!("the token: {e}"),
        })?;
        *held = Some((value.clone(), now));
        Ok(value)
    }
}

/// Whether an error of the gateway means that it may answer later.
pub fn is_temporary(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        // The agent learns of a lease from its own node, which may be a block behind the tenant's.
        Error::NotFound(_) => true,
        // Another hand-over of the lease is still being given up, or too many are under way.
        Error::Server { code, .. } => matches!(code, tonic::Code::Aborted | tonic::Code::ResourceExhausted),
        _ => false,
    }
}

/// Error: a name is not exactly one path component that is visible and at most 255 bytes.
pub fn check_file_name(name: &str) -> Result<(), String> {
    let mut components = Path::new(name).components();
    let plain =
        matches!((components.next(), components.next()), (Some(std::path::Component::Normal(n)), None) if n == name);
    if plain
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['\\', '\0', '/'])
        && !name.contains(char::is_control)
    {
        return Ok(());
    }
    Err(format!(
        "file name {name:?} must be one visible path component of at most 255 bytes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_outputs_cannot_leave_the_directory() {
        for name in ["predictions.csv", "a b", "ä.bin"] {
            assert_eq!(check_file_name(name), Ok(()), "{name:?}");
        }
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "/a",
            "a/",
            ".hidden",
            "a\\b",
            "a\0",
            "a\n",
            &"x".repeat(256),
        ] {
            assert!(check_file_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_token_is_reused_while_it_is_young() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let _guard = runtime.enter();
        let client = Client::new("http://127.0.0.1:1", "tenure-1", 7, "p", Key::random()).expect("well formed");
        let first = client.bearer().expect("ascii");
        assert_eq!(client.bearer().expect("ascii"), first);
        let stale = AsciiMetadataValue::from_static("stale");
        *client.token.lock().expect("lock") = Some((stale.clone(), wall_ms() - TOKEN_LIFE_MS / 2));
        assert_ne!(client.bearer().expect("ascii"), stale);
    }
}
