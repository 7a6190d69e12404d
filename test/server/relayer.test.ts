import { createPublicClient, custom, encodeFunctionResult, type Hex, toFunctionSelector } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { fundGas } from "../../src/cli/demo/chainControl.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import { decodeRequest } from "../../src/protocol/index.ts";
import { MemoryStore, PaymentEngine, type SettlementPolicy } from "../../src/server/index.ts";
import { expectPaid } from "../support/expect.ts";
import { rpc } from "../support/sessionDrafts.ts";
import { useWorld } from "../support/useWorld.ts";
import { FUNDS, type PaidServer, type Payer, PRICE, transactionOf } from "../support/world.ts";
import { NEVER_SECONDS, openBooks, QUIET } from "./settlement/support.ts";
import { pay, until } from "./watchStage.ts";

const world = useWorld();
const relayer = privateKeyToAccount(generatePrivateKey());
let payer: Payer;

const client = () => world.chain.client;

beforeEach(async () => {
	payer = await world.payer();
	await fundGas(client(), relayer.address);
});

/** A server whose payee has no gas at all. */
async function serve(settlement: SettlementPolicy = QUIET): Promise<PaidServer> {
	const server = await world.serve({
		engine: { relayer, settlement, watch: { pollMs: 20 }, limits: { settleEveryMs: 50 } },
	});
	await rpc(client(), "anvil_setBalance", [server.payee, "0x0"]);
	return server;
}

/** The payee has neither sent anything nor paid for anything. */
async function expectNothingSentBy(server: PaidServer): Promise<void> {
	expect(await server.transactions()).toBe(0);
	expect(await client().getBalance({ address: server.payee })).toBe(0n);
}

async function senderOf(hash: Hex): Promise<string> {
	return (await client().getTransaction({ hash })).from.toLowerCase();
}

describe("a payee without gas, whose relayer pays", () => {
	it("opens a channel and closes it when its client asks for it", async () => {
		const server = await serve();
		const books = await openBooks(world, server, [payer]);
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		const close = await payer.close(await server.challenge("/session"), channel, PRICE);
		const closed = await server.pay("/session", close);
		expectPaid(closed);
		expect(await senderOf(transactionOf(closed))).toBe(relayer.address.toLowerCase());
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
		expect(await world.balance(server.payee)).toBe(PRICE);
		expect(await world.balance(payer.address)).toBe(FUNDS - PRICE);
		await expectNothingSentBy(server);
		await books.balance([channel]);
	});

	it("is paid by its policy, again and again", async () => {
		const server = await serve({ ...QUIET, maxUnsettled: PRICE });
		const books = await openBooks(world, server, [payer]);
		const channel = await server.open(payer);
		for (let round = 1n; round <= 3n; round++) {
			expectPaid(await pay(server, payer, channel, round * PRICE));
			await until("the payee has the money", async () => (await world.balance(server.payee)) === round * PRICE);
		}
		await expectNothingSentBy(server);
		await until("the ledger knows", async () => (await server.ledger(channel))?.settledOnChain === 3n * PRICE);
		await books.balance([channel]);
	});

	it("has a channel closed that nobody uses any more", async () => {
		const server = await serve({ maxAgeSeconds: NEVER_SECONDS, idleSeconds: 3_600 });
		const books = await openBooks(world, server, [payer]);
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		server.clock.advance(3_700_000);
		await until("the channel is closed", async () => (await server.ledger(channel))?.finalized === true);
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
		expect(await world.balance(payer.address)).toBe(FUNDS - PRICE);
		await expectNothingSentBy(server);
		await books.balance([channel]);
	});

	it("has a channel settled and closed at once whose payer asks the chain to close it (I9)", async () => {
		payer = await world.payer({ gas: true });
		const server = await serve();
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		await payer.requestClose(channel);
		await until("the payee has the money", async () => (await world.balance(server.payee)) === PRICE);
		await expectNothingSentBy(server);
	});

	it("offers no charge by Permit2, which only the one who is paid could send", async () => {
		const server = await serve();
		const types = async (path: string) => {
			const request = decodeRequest(await server.challenge(path)) as { methodDetails: { credentialTypes: string[] } };
			return request.methodDetails.credentialTypes;
		};
		expect(await types("/session")).toContain("permit2");
		expect(await types("/charge")).toContain("authorization");
		expect(await types("/charge")).not.toContain("permit2");
	});
});

it("is refused with an escrow that takes nothing by the payee's signature: leave the relayer out", async () => {
	const profile = toFunctionSelector("profileFunctions()");
	const functions = ["openWithAuthorization", "topUpWithAuthorization"].map((name) => {
		const item = paymentChannelEscrowAbi.find((one) => one.type === "function" && one.name === name);
		if (item?.type !== "function") throw new Error(`the escrow has no function ${name}`);
		return toFunctionSelector(item);
	});
	const node = createPublicClient({
		transport: custom({
			request: async (call: { method: string; params?: readonly { data?: string }[] }) => {
				if (call.method !== "eth_call" || call.params?.[0]?.data !== profile) return client().request(call as never);
				return encodeFunctionResult({
					abi: paymentChannelEscrowAbi,
					functionName: "profileFunctions",
					result: functions,
				});
			},
		}),
	});
	const { account, chainId, escrow, token } = await world.serverOptions();
	const starting = PaymentEngine.start({
		realm: "relayer.sluice.test",
		client: node,
		chainId,
		escrow,
		currency: token,
		account,
		relayer,
		secrets: ["a secret of a test, which is 32 bytes long"],
		store: new MemoryStore(),
	});
	await expect(starting).rejects.toMatchObject({
		code: "ENGINE_OPTIONS",
		message: expect.stringMatching(/option relayer.*leave it out, and let the payee pay the gas/),
	});
});
