// The chain's own messages for CosmJS, straight from the .proto sources: registry types for signing in general, amino converters for Ledger.
//
// The converters follow the amino options of the sources by their own rules, so they check the chain's.
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const PROTO = fileURLToPath(new URL("../../../proto", import.meta.url));

function load() {
  const root = new protobuf.Root();
  // Google's own files come with protobufjs.
  const { resolve } = createRequire(import.meta.url);
  root.resolvePath = (_, target) => (target.startsWith("google/protobuf/") ? resolve(`protobufjs/${target}`) : join(PROTO, target));
  for (const path of readdirSync(join(PROTO, "tenure"), { recursive: true })) {
    if (path.endsWith("/tx.proto")) root.loadSync(join("tenure", path), { keepCase: true });
  }
  root.resolveAll();
  return root;
}

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const is64 = (field) => /^(u|s)?int64$|^s?fixed64$/.test(field.type);

// A message as amino JSON: default values are left out unless the field says otherwise.
function toAmino(type, value) {
  const out = {};
  for (const field of type.fieldsArray) {
    const given = value[field.name];
    const one = (v) => {
      if (field.resolvedType instanceof protobuf.Type) return toAmino(field.resolvedType, v);
      if (field.type === "bytes") return base64(v);
      return is64(field) ? String(v) : v;
    };
    const keep = field.options?.["(amino.dont_omitempty)"] === true;
    if (field.repeated) {
      if (given?.length > 0 || keep) out[field.name] = (given ?? []).map(one);
    } else if (field.resolvedType instanceof protobuf.Type) {
      if (given !== undefined && given !== null) out[field.name] = one(given);
    } else {
      const json = one(given ?? field.typeDefault ?? "");
      const empty = json === "" || json === "0" || json === 0 || json === false;
      if (!empty || keep) out[field.name] = json;
    }
  }
  return out;
}

function fromAmino(type, json) {
  const out = {};
  for (const field of type.fieldsArray) {
    const given = json[field.name];
    if (given === undefined) continue;
    const one = (v) => {
      if (field.resolvedType instanceof protobuf.Type) return fromAmino(field.resolvedType, v);
      return field.type === "bytes" ? Buffer.from(v, "base64") : v;
    };
    out[field.name] = field.repeated ? given.map(one) : one(given);
  }
  return out;
}

const root = load();
const messages = [];
(function collect(node) {
  if (node instanceof protobuf.Type && node.options?.["(amino.name)"]?.startsWith("tenure/")) messages.push(node);
  for (const child of node.nestedArray ?? []) collect(child);
})(root);

/** Pairs of type URL and type, for a CosmJS registry. Fields have the names of the .proto files. */
export const types = messages.map((type) => [type.fullName.replace(".", "/"), type]);

/** Converters for CosmJS's AminoTypes. */
export const converters = Object.fromEntries(
  messages.map((type) => [
    type.fullName.replace(".", "/"),
    {
      aminoType: type.options["(amino.name)"],
      toAmino: (value) => toAmino(type, value),
      fromAmino: (json) => fromAmino(type, json),
    },
  ]),
);

/** The type with this full name, for reading responses. */
export const lookup = (name) => root.lookupType(name);
