// CosmJS with the generated types, against a running tenured: one of the programs that node/tests/cosmjs/run starts, with the first of its accounts.
//
//   node test.mjs run <run.json>      runs the test; exit code 1 if anything failed
//
// The mnemonic is for tests: whoever reads this file has it.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { DirectSecp256k1HdWallet, Registry } from "@cosmjs/proto-signing";
import { GasPrice, SigningStargateClient, defaultRegistryTypes } from "@cosmjs/stargate";
import { market, tenureTypes } from "../dist/src/index.js";
import { QueryBidRequest, QueryBidResponse } from "../dist/gen/tenure/market/v1/query.js";

const MNEMONIC = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
const wallet = await DirectSecp256k1HdWallet.fromMnemonic(MNEMONIC, { prefix: "tenure" });
const [{ address }] = await wallet.getAccounts();

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

/** Type URLs of the messages of every service Msg in the .proto files. */
function declared() {
  const root = new URL("../../tenure/", import.meta.url);
  const urls = [];
  for (const name of readdirSync(root, { recursive: true }).filter((n) => n.endsWith(".proto"))) {
    const text = readFileSync(new URL(name, root), "utf8");
    const service = /^service Msg \{([\s\S]*?)^\}/m.exec(text)?.[1] ?? "";
    const pkg = /^package (\S+);/m.exec(text)[1];
    for (const [, type] of service.matchAll(/rpc \w+\((\w+)\)/g)) urls.push(`/${pkg}.${type}`);
  }
  return urls.sort();
}

async function run(runFile) {
  const { rpc, api } = JSON.parse(readFileSync(runFile));
  await step("the registry has every message of the .proto files", () =>
    assert.deepEqual(tenureTypes.map(([url]) => url).sort(), declared()));

  const registry = new Registry([...defaultRegistryTypes, ...tenureTypes]);
  const options = { registry, gasPrice: GasPrice.fromString("0.001uten"), broadcastPollIntervalMs: 200, broadcastTimeoutMs: 20_000 };
  const client = await SigningStargateClient.connectWithSigner(`http://${rpc}`, wallet, options);
  const postBid = {
    typeUrl: `/${market.MsgPostBid.$type}`,
    value: market.MsgPostBid.fromPartial({
      tenant: address,
      resources: { cpuMilli: 500n, memoryBytes: 64n << 20n, storageBytes: 0n },
      maxRate: 7_000_000n,
      durationMs: 3_600_000n,
      deposit: { denom: "uten", amount: "7000000" },
      manifestHash: new Uint8Array(32).fill(7),
    }),
  };
  let id;
  await step("a bid is estimated, posted and answered with its id", async () => {
    const sent = await client.signAndBroadcast(address, [postBid], 1.5);
    assert.equal(sent.code, 0, sent.rawLog);
    const [response] = sent.msgResponses;
    assert.equal(response.typeUrl, "/tenure.market.v1.MsgPostBidResponse");
    id = market.MsgPostBidResponse.decode(response.value).bidId;
    assert.ok(id > 0n);
  });
  await step("the chain gives it back, over ABCI as bytes and over REST as JSON", async () => {
    const data = QueryBidRequest.encode({ id }).finish();
    const answer = await client.getCometClient().abciQuery({ path: "/tenure.market.v1.Query/Bid", data, prove: false });
    assert.equal(answer.code, 0, answer.log);
    const { bid } = QueryBidResponse.decode(answer.value);
    assert.deepEqual([bid.tenant, bid.maxRate, bid.resources.cpuMilli], [address, 7_000_000n, 500n]);
    const shown = await (await fetch(`http://${api}/tenure/market/v1/bids/${id}`)).json();
    assert.deepEqual(QueryBidResponse.toJSON(QueryBidResponse.decode(answer.value)).bid.manifestHash, shown.bid.manifest_hash);
    assert.deepEqual([shown.bid.tenant, shown.bid.max_rate], [address, "7000000"]);
    const mine = await (await fetch(`http://${api}/tenure/market/v1/tenants/${address}/bids?pagination.limit=5`)).json();
    assert.deepEqual(mine.bids, [shown.bid]);
  });
  await step("a message that breaks a rule is refused with the module's code", async () => {
    const again = { ...postBid, value: { ...postBid.value, durationMs: 0n } };
    await assert.rejects(client.signAndBroadcast(address, [again], 1.5), /duration/);
  });
  client.disconnect();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

const [command, argument] = process.argv.slice(2);
if (command === "run") await run(argument);
else throw new Error("usage: test.mjs run <run.json>");
