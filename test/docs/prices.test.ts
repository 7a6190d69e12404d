import { readFileSync } from "node:fs";
import Fastify from "fastify";
import type { Address } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { declareRoutes } from "../../examples/prices.ts";
import { decodeRequest } from "../../src/protocol/index.ts";
import { sluice } from "../../src/server/index.ts";
import { expectPaid } from "../support/expect.ts";
import { payAt } from "../support/faces.ts";
import { send } from "../support/http.ts";
import { deployToken } from "../support/sessionDrafts.ts";
import { createWorld, type PaidServer, type Payer, type World } from "../support/world.ts";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");

let world: World;
let payer: Payer;
let server: PaidServer;
let dai: Address;
let handle: ReturnType<typeof declareRoutes>;
let origin: string;
const app = Fastify();
const platform = privateKeyToAccount(generatePrivateKey()).address;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer({ gas: true });
	dai = await deployToken(world, payer);
	const { client, chainId } = world.chain;
	const also = [{ client, chainId, currency: dai, escrow: world.escrow }];
	server = await world.serve({ engine: { also } });
	await app.register(sluice, { engine: server.engine });
	handle = declareRoutes(app, server.engine, dai, platform);
	origin = await app.listen({ host: "127.0.0.1", port: 0 });
});
afterAll(async () => {
	await app.close();
	await world.stop();
});

it("the README shows the example of prices as it stands", () => {
	expect(read("README.md")).toContain(read("examples/prices.ts"));
});

it("a choice is offered in its order: two tokens by channel, one split charge", async () => {
	const { challenges } = await send(origin, "/model");
	const requests = challenges.map((challenge) => decodeRequest(challenge) as { amount: string; currency: string });
	expect(requests.map(({ amount }) => amount)).toEqual(["40", "60", "1000"]);
	expect(requests[1]?.currency.toLowerCase()).toBe(dai);
	const channel = await server.open(payer);
	const [challenge] = challenges;
	if (challenge === undefined) throw new TypeError("no challenge");
	const answer = await payAt(origin, "/model", await payer.voucher(challenge, channel, 40n));
	expectPaid(answer);
	expect(answer.json).toEqual({ paid: "40" });
});

it("a price is made from the body, and what was given along comes back", async () => {
	const options = { method: "POST", body: '{"a":1}', headers: { "x-customer": "17" } };
	const { challenges } = await send(origin, "/resize", options);
	const [challenge] = challenges;
	if (challenge === undefined) throw new TypeError("no challenge");
	const answer = await payAt(origin, "/resize", await payer.charge(challenge, server.payee, 7n), options);
	expectPaid(answer);
	expect(answer.json).toEqual({ resizedFor: "17" });
});

it("the Web-standard handler takes the same engine's payments", async () => {
	const unpaid = await handle(new Request("http://127.0.0.1/any"));
	expect(unpaid.status).toBe(402);
});
