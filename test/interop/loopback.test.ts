import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { clientFor } from "../client/support.ts";
import { createWorld, type World } from "../support/world.ts";
import { watchSockets } from "./sockets.ts";

let world: World;
beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());

it("the watch sees a socket to another address, and a name that is looked up", async () => {
	const watch = watchSockets();
	const listener = createServer((socket) => socket.end()).listen(0, "127.0.0.2");
	await once(listener, "listening");
	const { port } = listener.address() as AddressInfo;
	const socket = connect(port, "127.0.0.2");
	await once(socket, "connect");
	socket.destroy();
	await fetch(`http://localhost:${port}/`).catch(() => undefined);
	listener.close();
	expect(watch.hosts()).toContain("127.0.0.2");
	expect(watch.hosts()).toContain("localhost");
	watch.end();
});

it("mppx reaches nothing but the server and the chain of the test, neither when it is loaded nor when either side pays the other", async () => {
	const watch = watchSockets();
	// Loaded only now, so that what it does when it is loaded is seen.
	const { mppxClient, startMppxServer } = await import("./mppx.ts");
	const ours = await world.serve();
	const payer = await world.payer();
	const paidOurs = await (await mppxClient(world, payer.account)).fetch(`${ours.url}/charge`);
	expect(paidOurs.status).toBe(200);

	const theirs = await startMppxServer(world, { recipient: ours.payee });
	const paidTheirs = await clientFor(world, payer.account, [theirs.host]).fetch(theirs.url);
	expect(paidTheirs.status).toBe(200);
	await theirs.stop();

	expect(watch.hosts()).toEqual(["127.0.0.1"]);
	watch.end();
});
