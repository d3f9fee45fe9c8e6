// xmpp.js's part in the benchmarks: node xmppjs_program.mjs ROLE
import { createRequire } from "node:module";
import { pathToFileURL, fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
import path from "node:path";

const place = path.join(path.dirname(fileURLToPath(import.meta.url)), "..", ".peers", "xmpp.js", "package.json");
const resolve = createRequire(place).resolve;
const load = (name) => import(pathToFileURL(resolve(name)));

async function echoComponent(options) {
  const { component, xml } = await load("@xmpp/component");
  const xmpp = component({
    service: `xmpp://127.0.0.1:${options.port}`,
    domain: options.domain,
    password: "secret",
  });
  xmpp.reconnect.stop();
  xmpp.on("error", (error) => process.stderr.write(`${error}\n`));
  xmpp.on("stanza", (stanza) => {
    if (!stanza.is("message")) return;
    xmpp.send(
      xml(
        "message",
        { to: stanza.attrs.from, from: stanza.attrs.to, id: stanza.attrs.id, type: "chat" },
        xml("body", {}, stanza.getChildText("body")),
      ),
    );
  });
  await xmpp.start();
}

const roles = { "echo-component": echoComponent };
const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => roles[process.argv[2]](JSON.parse(line)));
