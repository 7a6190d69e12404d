import type { Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { createSmartPayer, deployToken } from "../../support/sessionDrafts.ts";
import { createWorld, DEPOSIT, type PaidServer, type Payer, PRICE, type World } from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
	payer = await world.payer({ gas: true });
});
afterAll(() => world.stop());

const challenge = () => server.challenge("/session");
const stranger = privateKeyToAccount(generatePrivateKey());

describe("open by hash", () => {
	it("an open by hash of a channel to another payee or in another token is refused and stores nothing", async () => {
		const foreign = payer.channel(stranger.address);
		const hash = await payer.openOnChain(foreign, DEPOSIT);
		const claimed = { ...payer.channel(server.payee, { salt: foreign.salt }), channelId: foreign.channelId };
		const drafts = [
			await payer.openByHash(await challenge(), foreign, hash),
			await payer.openByHash(await challenge(), claimed, hash),
			// Its own id, as it would be to us; the transaction opened another one.
			await payer.openByHash(await challenge(), payer.channel(server.payee, { salt: foreign.salt }), hash),
		];
		for (const draft of drafts) {
			const answer = await unchanged(server, [foreign], () => server.pay("/session", draft));
			expect([400, 410]).toContain(answer.status);
			expect(await server.ledger({ channelId: draft.payload.channelId as Hex })).toBeUndefined();
		}
		const other = await deployToken(world, payer);
		const inOther = payer.channelIn(other, server.payee);
		const opened = await payer.openOnChain(inOther, DEPOSIT);
		expect(await world.onChain(inOther)).toMatchObject({ token: other, deposit: DEPOSIT });
		const draft = await payer.openByHash(await challenge(), inOther, opened);
		expectRefusal(await unchanged(server, [inOther], () => server.pay("/session", draft)), "bad-request");
		expect(await server.ledger(inOther)).toBeUndefined();
	});

	it("an open that went through a smart account is proven by the escrow's event, whatever the transaction's `to` (D12)", async () => {
		const smart = await createSmartPayer(world, payer);
		const channel = smart.payer.channel(server.payee, { signer: payer.account });
		const hash = await smart.openOnChain(channel, DEPOSIT);
		const { to } = await world.chain.client.getTransaction({ hash });
		expect([channel.escrow, smart.payer.address]).not.toContain(to?.toLowerCase());
		expectPaid(await server.pay("/session", await smart.payer.openByHash(await challenge(), channel, hash, PRICE)));
		expect(await server.ledger(channel)).toMatchObject({ payer: smart.payer.address, deposit: DEPOSIT, spent: PRICE });
	});

	it("an open by hash of a channel that was closed meanwhile is 410", async () => {
		const channel = payer.channel(server.payee);
		const hash = await payer.openOnChain(channel, DEPOSIT);
		await world.closeOnChain(server.account, channel, PRICE, await payer.sign(channel, PRICE));
		const draft = await payer.openByHash(await challenge(), channel, hash, 2n * PRICE);
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "session/channel-finalized");
	});
});
