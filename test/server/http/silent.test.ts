import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createWorld, type World } from "../../support/world.ts";

let world: World;
beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());

it("a connection that has sent nothing, as browsers open some in advance, does not hold up the server's end", async () => {
	const server = await world.serve();
	const silent = connect(Number(new URL(server.url).port), "127.0.0.1");
	await once(silent, "connect");
	const used = await server.send("/free");
	expect(used.status).toBe(200);
	// Node would wait for it longer than this test may take.
	const cut = once(silent, "close");
	await server.closeApp();
	await cut;
});
