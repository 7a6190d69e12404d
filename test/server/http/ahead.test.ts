/** Vouchers that are signed some units ahead: one credential, byte for byte, pays for several requests (D7, I6). */
import { beforeAll, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { createSmartPayer, rpc } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type PaidServer, PRICE, type TestChannel } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;

beforeAll(async () => {
	server = await world.serve();
});

const challenge = () => server.challenge("/session");
const spentOn = async (channel: TestChannel) => (await server.amounts(channel))?.spent ?? 0n;

describe("a voucher that is signed ahead", () => {
	it("pays for as many requests as it covers, each with its own Idempotency-Key, and for no more (I1, I6)", async () => {
		const payer = await world.payer();
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, 5n * PRICE);
		const before = await spentOn(channel);
		const left = Number((5n * PRICE - before) / PRICE);
		const all = await Promise.all(
			Array.from({ length: left }, (_, n) => server.pay("/session", draft, { key: `request ${n}` })),
		);
		for (const answer of all) expectPaid(answer);
		expect(await spentOn(channel)).toBe(5n * PRICE);
		// The same again: the same answer, nothing charged.
		expectPaid(await unchanged(server, [channel], () => server.pay("/session", draft, { key: "request 0" })));
		const beyond = () => server.pay("/session", draft, { key: "one more" });
		expectRefusal(await unchanged(server, [channel], beyond), "session/insufficient-balance");
		// Without a key, once is enough: it was used by others.
		const bare = () => server.pay("/session", draft);
		expectRefusal(await unchanged(server, [channel], bare), "session/insufficient-balance");
	});

	it("vouches for no other one, whatever of it is the same (I3)", async () => {
		const payer = await world.payer();
		const channel = await server.open(payer);
		const draft = await payer.voucher(await challenge(), channel, 5n * PRICE);
		expectPaid(await server.pay("/session", draft, { key: "first" }));
		const { signature } = draft.payload as Readonly<{ signature: string }>;
		const flipped = `${signature.slice(0, 20)}${signature[20] === "0" ? "1" : "0"}${signature.slice(21)}`;
		const changes = [{ cumulativeAmount: String(6n * PRICE) }, { signature: flipped }];
		for (const [n, change] of changes.entries()) {
			const forged = { ...draft, payload: { ...draft.payload, ...change } };
			const send = () => server.pay("/session", forged, { key: `forged ${n}` });
			expect((await unchanged(server, [channel], send)).status).toBe(402);
		}
		expectPaid(await server.pay("/session", draft, { key: "second" }));
	});

	it("is asked about again where a contract vouches for it: that may change its mind (I3)", async () => {
		const smart = await createSmartPayer(world, await world.payer({ gas: true }));
		const channel = await server.open(smart.payer);
		const draft = await smart.payer.voucher(await challenge(), channel, 5n * PRICE);
		expectPaid(await server.pay("/session", draft, { key: "first" }));
		expectPaid(await server.pay("/session", draft, { key: "second" }));
		// From now on it says no to everything.
		await rpc(world.chain.client, "anvil_setCode", [smart.payer.address, "0x60006000fd"]);
		const send = () => server.pay("/session", draft, { key: "third" });
		expectRefusal(await unchanged(server, [channel], send), "session/signer-mismatch");
	});
});
