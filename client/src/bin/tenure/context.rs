//! What a command needs: home, configuration, keys, the node.

use std::path::PathBuf;

use tenure_client::{
    chain::{Client, DEFAULT_NODE},
    home::{default_home, Config, DEFAULT_KEY},
    keyring::Keyring,
    keys::Key,
    passphrase::Passphrase,
    sender::{Gas, TxOptions, TxSender},
    Error, Result,
};
use tenure_proto::Any;
use tenure_types::Address;

use crate::{args::Global, ui::Ui};

/// What a command needs. Nothing is read from the network before it is asked for.
pub(crate) struct Context {
    pub(crate) ui: Ui,
    pub(crate) home: PathBuf,
    pub(crate) config: Config,
    pub(crate) configured: bool,
    options: TxOptions,
}

impl Context {
    /// From flags, environment and the home's configuration.
    pub(crate) fn new(global: &Global, ui: Ui) -> Result<Self> {
        let home = match &global.home {
            Some(home) => home.clone(),
            None => default_home()?,
        };
        let stored = Config::load(&home)?;
        let configured = stored.is_some();
        let mut config = stored.unwrap_or_default();
        let set = |field: &mut String, flag: &Option<String>, default: &str| {
            if let Some(value) = flag {
                value.clone_into(field);
            } else if field.is_empty() {
                default.clone_into(field);
            }
        };
        set(&mut config.node, &global.node, DEFAULT_NODE);
        set(&mut config.chain_id, &global.chain_id, "");
        set(&mut config.key, &global.from, DEFAULT_KEY);
        if let Some(backend) = global.keyring {
            config.keyring = backend;
        }
        let gas = match global.gas.0 {
            Some(gas) => Gas::Fixed(gas),
            None => Gas::Simulated {
                adjustment_percent: global.gas_adjustment.0,
            },
        };
        let options = TxOptions {
            gas,
            gas_price_micro: global.gas_price_micro,
            timeout: global.tx_timeout.into(),
            ..TxOptions::default()
        };
        Ok(Self {
            ui,
            home,
            config,
            configured,
            options,
        })
    }

    /// How transactions are sent.
    pub(crate) fn options(&self) -> &TxOptions {
        &self.options
    }

    /// The keyring.
    pub(crate) fn keyring(&self) -> Keyring {
        Keyring::new(&self.home, self.config.keyring, Passphrase::EnvOrPrompt)
    }

    /// The signing key.
    pub(crate) fn key(&self) -> Result<Key> {
        self.begun()?;
        self.keyring().load(&self.config.key)
    }

    /// Error: nobody has made a key here yet, which `init` does, together with the configuration.
    fn begun(&self) -> Result<()> {
        if self.configured || !self.keyring().list()?.is_empty() {
            return Ok(());
        }
        let home = self.home.display();
        Err(Error::Key(format!(
            "there is no key and no configuration in {home}; `tenure init` makes both, or name another home with --home"
        )))
    }

    /// The signing key's address, without its passphrase.
    pub(crate) fn address(&self) -> Result<String> {
        self.begun()?;
        self.keyring().show(&self.config.key).map(|info| info.address)
    }

    /// An address, or the address of a key of this name. None: the signing key's.
    pub(crate) fn resolve(&self, who: Option<&str>) -> Result<String> {
        match who {
            None => self.address(),
            Some(text) => match text.parse::<Address>() {
                Ok(address) => Ok(address.to_string()),
                Err(e) if text.starts_with("tenure1") || (text.contains('1') && text.len() > 30) => {
                    Err(Error::Usage(e.to_string()))
                }
                Err(_) => self.keyring().show(text).map(|info| info.address),
            },
        }
    }

    /// The node, checked to be of the configured chain.
    pub(crate) async fn client(&self) -> Result<Client> {
        let client = Client::lazy(&self.config.node)?;
        let chain_id = match client.status().await {
            Ok(status) => status.chain_id,
            // What an HTTP server that knows no gRPC gives.
            Err(Error::Server { message, .. }) if message.contains("grpc-status header missing") => {
                return Err(Error::Usage(format!(
                    "{} answers and does not speak gRPC ({message}). Is it the node's JSON-RPC port? gRPC is another one, 9090 by default",
                    client.address()
                )));
            }
            Err(e) => return Err(e),
        };
        let expected = &self.config.chain_id;
        if !expected.is_empty() && *expected != chain_id {
            return Err(Error::Usage(format!(
                "the node at {} is of chain {chain_id:?}, and {expected:?} is configured; nothing was sent. Name another node with --node, or \
                 the chain with --chain-id",
                client.address()
            )));
        }
        Ok(client)
    }

    /// A sender for the signing key.
    pub(crate) async fn sender(&self) -> Result<TxSender> {
        let client = self.client().await?;
        TxSender::new(client, self.key()?, self.options.clone()).await
    }

    /// Sends one message of the signing key's account and waits for its block. `message` is given the address.
    pub(crate) async fn send(&self, message: impl FnOnce(String) -> Any) -> Result<tenure_client::sender::TxResult> {
        let sender = self.sender().await?;
        let message = message(sender.address());
        self.ui.waiting("waiting for the transaction's block");
        let result = sender.send_and_confirm(vec![message]).await;
        self.ui.finish();
        result
    }
}
