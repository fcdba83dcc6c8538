// An OPC UA client by others, as a PLC: connects with certificate and user, browses, subscribes to
// the events, starts one job and prints what came, one JSON object.
//   node peer.js ENDPOINT CERTIFICATE.pem KEY.pem PKI USER PASSWORD PART
"use strict";
const [modules, endpoint, certificateFile, privateKeyFile, pki, userName, password, part] =
    process.argv.slice(2);
const {
    AttributeIds, DataType, MessageSecurityMode, OPCUAClient, SecurityPolicy, TimestampsToReturn,
    UserTokenType, VariantArrayType, constructEventFilter,
} = require(`${modules}/node-opcua-client`);
const { OPCUACertificateManager } = require(`${modules}/node-opcua-certificate-manager`);

const FIELDS = ["EventType", "SourceName", "Message", "PartId", "JobId", "MeasId", "Code", "Reason", "Score", "Seq"];

async function main() {
    const manager = new OPCUACertificateManager({
        rootFolder: pki, automaticallyAcceptUnknownCertificate: true,
    });
    await manager.initialize();
    const client = OPCUAClient.create({
        applicationUri: "urn:test:plc", certificateFile, privateKeyFile,
        clientCertificateManager: manager, securityMode: MessageSecurityMode.SignAndEncrypt,
        securityPolicy: SecurityPolicy.Basic256Sha256, endpointMustExist: false,
        connectionStrategy: { maxRetry: 0 },
    });
    await client.connect(endpoint);
    const session = await client.createSession({ type: UserTokenType.UserName, userName, password });
    const namespaces = await session.readNamespaceArray();
    const ns = namespaces.indexOf("urn:rgbd-inspection:opcua");
    const node = (path) => `ns=${ns};s=VisionSystem${path ? "/" + path : ""}`;
    const browsed = await session.browse(node(""));
    const children = browsed.references.map((one) => one.browseName.name);

    const subscription = await session.createSubscription2({
        requestedPublishingInterval: 10, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 20,
        publishingEnabled: true,
    });
    const filter = constructEventFilter(FIELDS.map((f, i) => (i < 3 ? f : `${ns}:${f}`)));
    const item = await subscription.monitor(
        { nodeId: node(""), attributeId: AttributeIds.EventNotifier },
        { samplingInterval: 0, queueSize: 1000, filter }, TimestampsToReturn.Both);
    const results = [];
    const arrived = new Promise((resolve) => item.on("changed", (values) => {
        const event = Object.fromEntries(FIELDS.map((f, i) => [f, values[i].value]));
        if (event.PartId === part && event.Code !== null) {
            results.push(event);
            resolve();
        }
    }));
    const text = (value) => ({ dataType: DataType.String, value });
    const called = await session.call({
        objectId: node("VisionStateMachine/AutomaticModeStateMachine"),
        methodId: node("VisionStateMachine/AutomaticModeStateMachine/StartSingleJob"),
        inputArguments: [text("7"), text(part), text(""), text(""), {
            dataType: DataType.String, arrayType: VariantArrayType.Array, value: ["deadline_ms=5000"],
        }],
    });
    await Promise.race([arrived, new Promise((_, no) => setTimeout(() => no(new Error("no event")), 20000))]);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const seq = await session.read({ nodeId: node("LastVerdict/Seq"), attributeId: AttributeIds.Value });
    const methods = await session.getArgumentDefinition(
        node("VisionStateMachine/AutomaticModeStateMachine/StartSingleJob"));
    console.log(JSON.stringify({
        children, status: called.statusCode.name, outputs: called.outputArguments.map((o) => o.value),
        inputs: methods.inputArguments.map((a) => a.name), results, seq: seq.value.value,
    }));
    await session.close();
    await client.disconnect();
}

main().then(() => process.exit(0), (error) => { console.error(error.stack); process.exit(1); });
