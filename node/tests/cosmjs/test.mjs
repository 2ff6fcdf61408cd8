// CosmJS, unchanged, against a running tenured.
//
//   node test.mjs addresses            prints <address>=<coins> for each account the test needs in genesis
//   node test.mjs run <rpc url>        runs the test; exit code 1 if anything failed
//   node test.mjs sign <rpc url>       prints a signed transfer in base64, not sent: for subscribe.mjs
//
// The mnemonics are for tests: whoever reads this file has them.
import assert from "node:assert/strict";
import { Secp256k1HdWallet } from "@cosmjs/amino";
import { toBase64 } from "@cosmjs/encoding";
import { DirectSecp256k1HdWallet, Registry } from "@cosmjs/proto-signing";
import { TxBody, TxRaw } from "cosmjs-types/cosmos/tx/v1beta1/tx";
import {
  AminoTypes,
  createDefaultAminoConverters,
  defaultRegistryTypes,
  GasPrice,
  SigningStargateClient,
  StargateClient,
} from "@cosmjs/stargate";
import * as tenure from "./tenure.mjs";

const PREFIX = "tenure";
const DENOM = "uten";
const START = 1_000_000_000n;
const DIRECT = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
const AMINO = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong";

async function signer(Wallet, mnemonic) {
  const wallet = await Wallet.fromMnemonic(mnemonic, { prefix: PREFIX });
  const [{ address }] = await wallet.getAccounts();
  return { wallet, address };
}

const direct = await signer(DirectSecp256k1HdWallet, DIRECT);
const amino = await signer(Secp256k1HdWallet, AMINO);
const stranger = (await signer(DirectSecp256k1HdWallet, (await DirectSecp256k1HdWallet.generate(12)).mnemonic)).address;

let passed = 0;
let failed = 0;
async function step(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.stack ?? error}`);
  }
}

// What a Ledger does: it signs amino JSON and nothing else.
async function aminoSteps(rpc, options, balance) {
  const registry = new Registry([...defaultRegistryTypes, ...tenure.types]);
  const aminoTypes = new AminoTypes({ ...createDefaultAminoConverters(), ...tenure.converters });
  const ledger = await SigningStargateClient.connectWithSigner(rpc, amino.wallet, { ...options, registry, aminoTypes });
  const send = async (name, value, memo = "") => {
    const sent = await ledger.signAndBroadcast(amino.address, [{ typeUrl: `/tenure.${name}`, value }], "auto", memo);
    assert.equal(sent.code, 0, sent.rawLog);
    return sent;
  };
  const response = (sent, name) => tenure.lookup(`tenure.${name}`).decode(sent.msgResponses[0].value);
  const resources = { cpu_milli: "500", memory_bytes: "67108864" };
  let bid;

  await step("a transfer signed in amino JSON, as a Ledger does it, is executed", async () => {
    const amount = [{ denom: DENOM, amount: "66" }];
    const before = await balance(stranger);
    const sent = await ledger.sendTokens(amino.address, stranger, amount, "auto", "rent & <b>lease</b> \"é\" 𝄞");
    assert.equal(sent.code, 0, sent.rawLog);
    assert.equal(await balance(stranger), before + 66n);
  });
  await step("a transfer to several, signed in amino JSON", async () => {
    const coins = [{ denom: DENOM, amount: "5" }];
    const value = { inputs: [{ address: amino.address, coins }], outputs: [{ address: stranger, coins }] };
    const sent = await ledger.signAndBroadcast(amino.address, [{ typeUrl: "/cosmos.bank.v1beta1.MsgMultiSend", value }], "auto");
    assert.equal(sent.code, 0, sent.rawLog);
  });
  await step("a bid signed in amino JSON is posted", async () => {
    const sent = await send("market.v1.MsgPostBid", {
      tenant: amino.address,
      resources,
      max_rate: "3600000",
      duration_ms: "60000",
      deposit: { denom: DENOM, amount: "1000000" },
      // Bytes whose base64 needs + and /.
      manifest_hash: Buffer.alloc(32, 0xfb),
      claim_window: { blocks: "1", ms: "5000" },
    });
    bid = String(response(sent, "market.v1.MsgPostBidResponse").bid_id);
  });
  await step("its escrow is topped up and drawn from, in amino JSON", async () => {
    const amount = { denom: DENOM, amount: "5000" };
    await send("market.v1.MsgDeposit", { depositor: amino.address, bid_id: bid, amount });
    await send("market.v1.MsgWithdrawDeposit", { tenant: amino.address, bid_id: bid, amount });
  });
  await step("the bid is cancelled in amino JSON", async () =>
    assert.ok((await send("market.v1.MsgCancelBid", { tenant: amino.address, bid_id: bid })).height > 0));
  await step("a provider's life in amino JSON: register, update, drain, leave", async () => {
    const owner = amino.address;
    const endpoint = "http://127.0.0.1:9";
    const bond = { denom: DENOM, amount: "100000000" };
    await send("provider.v1.MsgRegister", { owner, moniker: "<ledger> & co", endpoint, capacity: resources, bond });
    await send("provider.v1.MsgUpdate", { owner, moniker: "ledger", endpoint, capacity: resources });
    await send("provider.v1.MsgDrain", { owner, drain: true });
    await send("provider.v1.MsgDrain", { owner });
    await send("provider.v1.MsgLeave", { owner });
  });
  await step("a message refused in the block is refused in amino JSON with the same words", async () => {
    const fee = { amount: [{ denom: DENOM, amount: "1000" }], gas: "300000" };
    const message = { typeUrl: "/tenure.market.v1.MsgCancelBid", value: { tenant: amino.address, bid_id: "999" } };
    const sent = await ledger.signAndBroadcast(amino.address, [message], fee, "");
    assert.notEqual(sent.code, 0);
    assert.match(sent.rawLog, /999/);
  });
  await step("an amino JSON signature over anything else is refused", async () => {
    const fee = { amount: [{ denom: DENOM, amount: "1000" }], gas: "300000" };
    const { accountNumber, sequence } = await ledger.getSequence(amino.address);
    const chainId = await ledger.getChainId();
    const message = { typeUrl: "/tenure.market.v1.MsgCancelBid", value: { tenant: amino.address, bid_id: "999" } };
    const signed = await ledger.sign(amino.address, [message], fee, "memo", { accountNumber, sequence, chainId });
    const body = TxBody.decode(signed.bodyBytes);
    signed.bodyBytes = TxBody.encode({ ...body, memo: "oh no" }).finish();
    await assert.rejects(ledger.broadcastTx(TxRaw.encode(signed).finish()), /signature verification failed/);
  });
  ledger.disconnect();
}

async function run(rpc) {
  const options = { gasPrice: GasPrice.fromString(`0.001${DENOM}`), broadcastPollIntervalMs: 200, broadcastTimeoutMs: 20_000 };
  let client;
  await step("connects with a signer and tells the chain id", async () => {
    client = await SigningStargateClient.connectWithSigner(rpc, direct.wallet, options);
    assert.match(await client.getChainId(), /^tenure-/);
  });
  if (!client) return;
  const balance = async (address) => BigInt((await client.getBalance(address, DENOM)).amount);

  await step("reads a balance from genesis", async () => assert.equal(await balance(direct.address), START));
  await step("reads all balances", async () =>
    assert.deepEqual(await client.getAllBalances(direct.address), [{ denom: DENOM, amount: START.toString() }]));
  await step("a missing account is null", async () => assert.equal(await client.getAccount(stranger), null));
  await step("a missing account has the balance 0", async () => assert.equal(await balance(stranger), 0n));
  await step("reads account number and sequence", async () => {
    const account = await client.getAccount(direct.address);
    assert.equal(account.address, direct.address);
    assert.equal(account.sequence, 0);
  });
  await step("simulates", async () => {
    const msg = {
      typeUrl: "/cosmos.bank.v1beta1.MsgSend",
      value: { fromAddress: direct.address, toAddress: stranger, amount: [{ denom: DENOM, amount: "1" }] },
    };
    const gas = await client.simulate(direct.address, [msg], "");
    assert.ok(gas > 1_000 && gas < 1_000_000, `gas ${gas}`);
  });

  let sent;
  await step("sends tokens with the fee found by simulation and waits for the block", async () => {
    sent = await client.sendTokens(direct.address, stranger, [{ denom: DENOM, amount: "1234" }], "auto", "hello");
    assert.equal(sent.code, 0, sent.rawLog);
    assert.ok(sent.height > 0 && sent.gasUsed > 0n && sent.gasUsed <= sent.gasWanted);
    assert.equal(await balance(stranger), 1234n);
  });
  await step("finds the transaction by hash, with its events", async () => {
    const tx = await client.getTx(sent.transactionHash);
    assert.equal(tx.height, sent.height);
    // The fee is a transfer too.
    const transfers = tx.events.filter((e) => e.type === "transfer");
    const plain = transfers.map((e) => Object.fromEntries(e.attributes.map((a) => [a.key, a.value])));
    const found = plain.find((t) => t.recipient === stranger);
    assert.deepEqual([found?.sender, found?.amount], [direct.address, `1234${DENOM}`]);
  });
  await step("finds it by its recipient", async () => {
    const found = await client.searchTx([{ key: "transfer.recipient", value: stranger }]);
    assert.deepEqual(found.map((tx) => tx.hash), [sent.transactionHash]);
  });
  await step("paid the fee and the amount, nothing else", async () => {
    const tx = await client.getTx(sent.transactionHash);
    const fee = tx.events.find((e) => e.type === "tx")?.attributes.find((a) => a.key === "fee")?.value;
    assert.match(fee, /^\d+uten$/);
    assert.equal(await balance(direct.address), START - 1234n - BigInt(fee.replace(DENOM, "")));
  });
  await step("the sequence went up by one", async () => assert.equal((await client.getSequence(direct.address)).sequence, 1));
  await step("reads the block", async () => {
    const block = await client.getBlock(sent.height);
    assert.equal(block.header.height, sent.height);
    assert.equal(block.txs.length >= 1, true);
  });
  await aminoSteps(rpc, options, balance);
  await step("a transfer beyond the balance is refused with the reason", async () => {
    const amount = [{ denom: DENOM, amount: (START * 2n).toString() }];
    await assert.rejects(client.sendTokens(direct.address, stranger, amount, "auto"), /insufficient|smaller/i);
  });
  await step("a wrong sequence is refused in the words clients parse", async () => {
    const amount = [{ denom: DENOM, amount: "1" }];
    const msg = { typeUrl: "/cosmos.bank.v1beta1.MsgSend", value: { fromAddress: direct.address, toAddress: stranger, amount } };
    const fee = { amount: [{ denom: DENOM, amount: "1000" }], gas: "200000" };
    const { accountNumber } = await client.getSequence(direct.address);
    const signerData = { accountNumber, sequence: 77, chainId: await client.getChainId() };
    const signed = TxRaw.encode(await client.sign(direct.address, [msg], fee, "", signerData)).finish();
    await assert.rejects(client.broadcastTx(signed), /account sequence mismatch, expected 1, got 77/);
  });
  await step("a client without a signer reads the height", async () => {
    const reader = await StargateClient.connect(rpc);
    assert.ok((await reader.getHeight()) >= sent.height);
    reader.disconnect();
  });
  client.disconnect();
}

const [command, argument] = process.argv.slice(2);
if (command === "addresses") {
  for (const { address } of [direct, amino]) console.log(`${address}=${START}${DENOM}`);
} else if (command === "run" && argument) {
  await run(argument);
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
} else if (command === "sign" && argument) {
  const client = await SigningStargateClient.connectWithSigner(argument, direct.wallet);
  const value = { fromAddress: direct.address, toAddress: stranger, amount: [{ denom: DENOM, amount: "1" }] };
  const fee = { amount: [{ denom: DENOM, amount: "1000" }], gas: "200000" };
  const signed = await client.sign(direct.address, [{ typeUrl: "/cosmos.bank.v1beta1.MsgSend", value }], fee, "");
  console.log(toBase64(TxRaw.encode(signed).finish()));
  client.disconnect();
} else {
  console.error("usage: node test.mjs addresses | node test.mjs run <rpc url> | node test.mjs sign <rpc url>");
  process.exit(2);
}
