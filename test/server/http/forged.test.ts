import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ProblemName } from "../../../src/protocol/index.ts";
import { expectPaid, expectProblem, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	createWorld,
	type Draft,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	type World,
	withPayload,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
/** A voucher that would be served: whatever is refused is refused for what was done to it. */
let good: Draft;

const stranger = privateKeyToAccount(generatePrivateKey());

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve();
	channel = await server.open(payer);
	good = await payer.voucher(await server.challenge("/session"), channel, PRICE);
});
afterAll(async () => {
	// It was good all along.
	expectPaid(await server.pay("/session", good));
	await world.stop();
});

async function refused(name: ProblemName, draft: Draft): Promise<void> {
	expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), name);
}

describe("a challenge that is not the one we gave", () => {
	it("but another server's, with other terms, or another secret", async () => {
		const servers = [await world.serve({ engine: { realm: "other.example" } }), await world.serve()];
		for (const other of servers) {
			const draft = await payer.voucher(await other.challenge("/session"), channel, PRICE);
			await refused("session/challenge-not-found", draft);
		}
	});

	it("but another payee's who has the same secret and realm (D9)", async () => {
		const secrets = ["the-very-same-secret-of-two-payees"];
		const [mine, other] = [await world.serve({ engine: { secrets } }), await world.serve({ engine: { secrets } })];
		const draft = await payer.voucher(await other.challenge("/session"), channel, PRICE);
		expectRefusal(await unchanged(mine, [], () => mine.pay("/session", draft)), "session/challenge-not-found");
	});
});

describe("a voucher's signature", () => {
	it("is the signer's, over this amount, channel, chain and escrow, and no other (I3)", async () => {
		const other = payer.channel(server.payee);
		const forgeries = [
			{ signer: stranger },
			{ amount: PRICE + 1n },
			{ amount: 0n },
			{ channelId: other.channelId },
			{ chainId: 1 },
			{ escrow: world.token },
		];
		for (const signing of forgeries) {
			await refused("session/signer-mismatch", await payer.voucher(good.challenge, channel, PRICE, signing));
			await refused("session/signer-mismatch", await payer.close(good.challenge, channel, PRICE, signing));
			// Also where the answer would have been 200 without a change (draft: Idempotency).
			await refused(
				"session/signer-mismatch",
				await payer.voucher(good.challenge, channel, 0n, { ...signing, amount: 7n }),
			);
		}
		const signature = String(good.payload.signature);
		const otherV = signature.slice(0, -2) + (signature.endsWith("1b") ? "1c" : "1b");
		const answer = await unchanged(server, [channel], () =>
			server.pay("/session", withPayload(good, { signature: otherV })),
		);
		expectProblem(answer);
		expect(answer.status).toBe(402);
	});
});
