import { readFile } from "node:fs/promises";
import Fastify, { type FastifyInstance } from "fastify";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { CANONICAL_PERMIT2, recordDeployment } from "../../deploy/index.ts";
import { PaymentClient } from "../../src/client/index.ts";
import { type DeploymentsInput, parseDeployments } from "../../src/escrow/index.ts";
import { type EngineOptions, LevelStore, PaymentEngine, sluice } from "../../src/server/index.ts";
import { createWorld, type World } from "../support/world.ts";
import { clientOf, fundedAccount } from "./support.ts";

let world: World;
let folder: string;
let deployments: DeploymentsInput;
beforeAll(async () => {
	world = await createWorld();
	folder = (await world.serverOptions()).folder;
	const file = `${folder}.json`;
	const made = { permit2: CANONICAL_PERMIT2, closeGracePeriodSeconds: 900 };
	await recordDeployment(file, world.chain.chainId, { escrow: world.escrow, ...made });
	deployments = parseDeployments(JSON.parse(await readFile(file, "utf8")));
});
afterAll(() => world?.stop());

const running: (() => unknown)[] = [];
afterEach(async () => {
	for (const stop of running.splice(0).reverse()) await stop();
});

/** A paid server that is not told its escrow. */
async function start(options: Partial<EngineOptions>): Promise<Readonly<{ engine: PaymentEngine; url: string }>> {
	const { chain, token } = world;
	const store = await LevelStore.open({ folder });
	running.push(() => store.close());
	const engine = await PaymentEngine.start({
		realm: "test.sluice.local",
		client: clientOf(chain.url),
		chainId: chain.chainId,
		currency: token,
		account: (await fundedAccount(chain.client)).account,
		secrets: ["0123456789abcdef0123456789abcdef"],
		store,
		receiptPollMs: 10,
		...options,
	});
	running.push(() => engine.stop());
	const app: FastifyInstance = Fastify();
	await app.register(sluice, { engine });
	app.get("/session", { config: { payment: { price: "100", suggestedDeposit: "1000" } } }, async () => "served");
	running.push(() => app.close());
	return { engine, url: await app.listen({ host: "127.0.0.1", port: 0 }) };
}

describe("an escrow that is not named", () => {
	it("is the recorded one, for the server and for the client: a request is paid through it", async () => {
		const { engine, url } = await start({ deployments });
		expect(engine.terms[0]?.escrow).toBe(world.escrow);
		const { account } = await world.payer();
		const payer = new PaymentClient({
			account,
			client: clientOf(world.chain.url),
			policy: {
				chainIds: [world.chain.chainId],
				tokens: [world.token],
				deployments,
				hosts: [new URL(url).host],
				maxDeposit: 1_000n,
				maxPrice: 100n,
			},
		});
		expect(await (await payer.fetch(`${url}/session`)).text()).toBe("served");
		const [channel] = payer.channels;
		expect(channel?.parameters.escrow).toBe(world.escrow);
	});

	it("stands back behind the one that is named", async () => {
		const elsewhere = { [world.chain.chainId]: { ...deployments[world.chain.chainId], escrow: world.token } };
		const { engine } = await start({ deployments: elsewhere as DeploymentsInput, escrow: world.escrow });
		expect(engine.terms[0]?.escrow).toBe(world.escrow);
	});

	it("keeps a server from starting where none is recorded, and the server says what to do", async () => {
		await expect(start({ deployments: {} })).rejects.toMatchObject({
			code: "ENGINE_OPTIONS",
			message: expect.stringMatching(/no escrow is recorded for chain \d+: .*`sluice deploy --rpc …`.*option escrow/),
		});
	});

	it("keeps a server from starting when the record is damaged", async () => {
		const damaged = { [world.chain.chainId]: { escrow: "0x12" } } as unknown as DeploymentsInput;
		await expect(start({ deployments: damaged })).rejects.toMatchObject({
			code: "ENGINE_OPTIONS",
			message: expect.stringMatching(/option deployments\.\d+\.escrow must be an address/),
		});
	});
});

it("without a record the client trusts no escrow, and says what to do", async () => {
	const { url } = await start({ escrow: world.escrow });
	const payer = new PaymentClient({
		account: privateKeyToAccount(generatePrivateKey()),
		client: clientOf(world.chain.url),
		policy: {
			chainIds: [world.chain.chainId],
			tokens: [world.token],
			deployments: {},
			hosts: [new URL(url).host],
			maxDeposit: 1_000n,
			maxPrice: 100n,
		},
	});
	await expect(payer.fetch(`${url}/session`)).rejects.toMatchObject({
		code: "POLICY_REFUSED",
		rule: "escrow",
		message: expect.stringMatching(/none is recorded for chain \d+; name it in escrows/),
	});
});
