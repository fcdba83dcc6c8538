// An independent Sparkplug host: Eclipse Tahu's sparkplug-client connects, sparkplug-payload decodes.
// Usage: node peer.js PORT GROUP NODE. One JSON line for each message of the group; the word
// "rebirth" on stdin sends that command to the node.
"use strict";
const readline = require("readline");
const sparkplug = require("sparkplug-client");
const payloads = require("sparkplug-payload").get("spBv1.0");
const { Payload } = require("sparkplug-payload/lib/sparkplugPayloadProto").org.eclipse.tahu.protobuf;

const [port, group, node] = process.argv.slice(2);
const types = new Map(); // of metrics, by alias, from the births

const client = sparkplug.newClient({
  serverUrl: `mqtt://127.0.0.1:${port}`, username: "", password: "",
  groupId: "hosts", edgeNode: "peer", clientId: "peer", version: "spBv1.0",
});

// Data messages leave the type to the birth, and this decoder wants it in every metric.
function decode(bytes) {
  const raw = Payload.decode(bytes);
  for (const metric of raw.metrics) {
    if (metric.name && metric.alias) types.set(String(metric.alias), metric.datatype);
    else if (metric.alias) metric.datatype = types.get(String(metric.alias));
  }
  return payloads.decodePayload(Payload.encode(raw).finish());
}

function plain(key, value) {
  return value && typeof value === "object" && "low" in value ? Number(value.toString()) : value;
}

client.on("connect", () => {
  client.client.on("message", (topic, bytes, packet) => {
    const line = { topic, qos: packet.qos, payload: decode(bytes) };
    process.stdout.write(JSON.stringify(line, plain) + "\n");
  });
  client.client.subscribe(`spBv1.0/${group}/#`, { qos: 1 }, () => process.stdout.write("{}\n"));
});

readline.createInterface({ input: process.stdin }).on("line", (word) => {
  if (word !== "rebirth") return;
  const metrics = [{ name: "Node Control/Rebirth", type: "Boolean", value: true }];
  const payload = client.encodePayload({ timestamp: Date.now(), metrics });
  client.client.publish(`spBv1.0/${group}/NCMD/${node}`, Buffer.from(payload));
}).on("close", () => process.exit(0));
