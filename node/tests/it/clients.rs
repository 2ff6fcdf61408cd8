//! Other people's clients, on both engines: cosmrs with its own gRPC stubs, and a client that knows nothing of the chain but what reflection tells it.

use anyhow::{bail, ensure, Context, Result};
use cosmrs::{
    bank::MsgSend,
    crypto::secp256k1::SigningKey,
    proto::cosmos::{
        auth::v1beta1::{query_client::QueryClient as AuthClient, BaseAccount, QueryAccountRequest},
        bank::v1beta1::{query_client::QueryClient as BankClient, QueryBalanceRequest},
        tx::v1beta1::{
            service_client::ServiceClient, BroadcastMode, BroadcastTxRequest, GetTxRequest, SimulateRequest,
        },
    },
    tx::{self, Body, Fee, Msg, SignDoc, SignerInfo},
    AccountId, Coin,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tenure_types::Address;
use tonic::{
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
    Request, Status,
};
use tonic_reflection::pb::v1::{
    server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse, ServerReflectionRequest,
};

use crate::live::{on_both_engines, Live, START};
use crate::support::CHAIN_ID;

on_both_engines!(
    cosmrs_builds_signs_and_sends_a_transfer_and_finds_it_again,
    a_client_that_only_has_reflection_calls_methods_by_name,
);

fn uten(amount: u128) -> Result<Coin> {
    let denom = "uten".parse().map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(Coin { denom, amount })
}

/// Account, estimate, signature, broadcast, receipt and balance, all with what cosmrs brings.
async fn cosmrs_builds_signs_and_sends_a_transfer_and_finds_it_again(live: &Live) -> Result<()> {
    let failed = |e: cosmrs::ErrorReport| anyhow::anyhow!("{e}");
    let channel = live.channel().await?;
    let key = SigningKey::from_slice(&[7; 32]).map_err(failed)?;
    let from: AccountId = key.public_key().account_id("tenure").map_err(failed)?;
    let ours: Address = from.to_string().parse()?;
    let funded = live.send(live.transfer(&ours, 1_000_000).await?).await?;
    live.committed(&funded).await?;

    let request = QueryAccountRequest {
        address: from.to_string(),
    };
    let found = AuthClient::new(channel.clone()).account(request).await?.into_inner();
    let found = BaseAccount::decode(found.account.context("account")?.value.as_slice())?;
    let to: AccountId = Address::new([5; 20]).to_string().parse().map_err(failed)?;
    let message = MsgSend {
        from_address: from.clone(),
        to_address: to.clone(),
        amount: vec![uten(123)?],
    };
    let body = Body::new(vec![message.to_any().map_err(failed)?], "from cosmrs", 0_u16);
    let chain_id = CHAIN_ID.parse().map_err(|e| anyhow::anyhow!("{e}"))?;
    let signed = |fee: Fee| -> Result<Vec<u8>> {
        let auth = SignerInfo::single_direct(Some(key.public_key()), found.sequence).auth_info(fee);
        let document = SignDoc::new(&body, &auth, &chain_id, found.account_number).map_err(failed)?;
        document.sign(&key).and_then(|raw| raw.to_bytes()).map_err(failed)
    };
    let mut service = ServiceClient::new(channel.clone());
    #[allow(deprecated, reason = "the field is there for old clients")]
    let ask = SimulateRequest {
        tx: None,
        tx_bytes: signed(Fee::from_amount_and_gas(uten(1)?, 0_u64))?,
    };
    let gas = service
        .simulate(ask)
        .await?
        .into_inner()
        .gas_info
        .context("gas")?
        .gas_used
        * 13
        / 10;
    let tx_bytes = signed(Fee::from_amount_and_gas(uten(u128::from(gas / 1_000 + 1))?, gas))?;
    let request = BroadcastTxRequest {
        tx_bytes: tx_bytes.clone(),
        mode: BroadcastMode::Sync as i32,
    };
    let sent = service
        .broadcast_tx(request)
        .await?
        .into_inner()
        .tx_response
        .context("response")?;
    ensure!(sent.code == 0, "{}", sent.raw_log);
    let height = live.committed(&sent.txhash).await?;

    let ask = GetTxRequest { hash: sent.txhash };
    let found = service
        .get_tx(ask)
        .await?
        .into_inner()
        .tx_response
        .context("response")?;
    assert_eq!((found.height, found.code), (height, 0), "{}", found.raw_log);
    let wrapped = found.tx.context("the transaction itself")?;
    let bytes = cosmrs::proto::cosmos::tx::v1beta1::Tx::decode(wrapped.value.as_slice())?.encode_to_vec();
    let read = tx::Tx::from_bytes(&bytes).map_err(failed)?;
    assert_eq!(read.body.memo, "from cosmrs");
    assert_eq!(MsgSend::from_any(&read.body.messages[0]).map_err(failed)?, message);
    let request = QueryBalanceRequest {
        address: to.to_string(),
        denom: "uten".to_owned(),
    };
    let balance = BankClient::new(channel)
        .balance(request)
        .await?
        .into_inner()
        .balance
        .context("balance")?;
    assert_eq!(balance.amount, "123");
    Ok(())
}

/// Asks reflection for the files that define a symbol, imports included.
async fn reflected(channel: &Channel, symbol: &str) -> Result<DescriptorPool> {
    let question = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let mut pool = DescriptorPool::new();
    let mut files = Vec::new();
    let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
    let mut asked = std::collections::BTreeSet::new();
    while let Some(next) = wanted.pop() {
        let mut client = ServerReflectionClient::new(channel.clone());
        let stream = tokio_stream::iter([question(next)]);
        let answer = client
            .server_reflection_info(stream)
            .await?
            .into_inner()
            .message()
            .await?;
        let found = match answer.and_then(|a| a.message_response).context("an answer")? {
            MessageResponse::FileDescriptorResponse(found) => found,
            other => bail!("{other:?}"),
        };
        for bytes in found.file_descriptor_proto {
            let file = prost_reflect::prost_types::FileDescriptorProto::decode(bytes.as_slice())?;
            for import in &file.dependency {
                if asked.insert(import.clone()) {
                    wanted.push(MessageRequest::FileByFilename(import.clone()));
                }
            }
            files.push(file);
        }
    }
    pool.add_file_descriptor_protos(files)?;
    Ok(pool)
}

/// Messages known only by their descriptors.
struct Dynamic(MethodDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|e| Status::internal(e.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.output(), buffer)
            .map(Some)
            .map_err(|e| Status::internal(e.to_string()))
    }
}

async fn a_client_that_only_has_reflection_calls_methods_by_name(live: &Live) -> Result<()> {
    let channel = live.channel().await?;
    let alice = live.alice.address().to_string();
    let call = |service: &'static str, method: &'static str, fields: Vec<(&'static str, Value)>| {
        let channel = channel.clone();
        async move {
            let pool = reflected(&channel, service).await?;
            let described = pool.get_service_by_name(service).context("service")?;
            let described = described.methods().find(|m| m.name() == method).context("method")?;
            let mut request = DynamicMessage::new(described.input());
            for (name, value) in fields {
                request.try_set_field_by_name(name, value)?;
            }
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await?;
            let path = http::uri::PathAndQuery::try_from(format!("/{service}/{method}"))?;
            let answer = grpc.unary(Request::new(request), path, Dynamic(described)).await?;
            anyhow::Ok(answer.into_inner())
        }
    };
    let fields = vec![
        ("address", Value::String(alice)),
        ("denom", Value::String("uten".to_owned())),
    ];
    let answer = call("cosmos.bank.v1beta1.Query", "Balance", fields).await?;
    let balance = answer.get_field_by_name("balance").context("balance")?.into_owned();
    let amount = balance
        .as_message()
        .and_then(|m| m.get_field_by_name("amount").map(|v| v.into_owned()));
    assert_eq!(amount, Some(Value::String(START.to_string())));

    let answer = call("tenure.market.v1.Query", "Params", Vec::new()).await?;
    let params = answer.get_field_by_name("params").context("params")?.into_owned();
    let longest = params
        .as_message()
        .and_then(|m| m.get_field_by_name("max_duration_ms").map(|v| v.into_owned()));
    ensure!(matches!(longest, Some(Value::U64(ms)) if ms > 0), "{longest:?}");
    Ok(())
}
