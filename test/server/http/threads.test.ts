/** Vouchers that are verified on other threads are taken and refused like all others. */
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { expect, it } from "vitest";
import { expectPaid } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import { PRICE, withPayload } from "../../support/world.ts";

const world = useWorld();
const CHANNELS = 12;
const ROUNDS = 8;

it("vouchers of many channels at once, good and forged, on threads: each good one pays once, no forged one pays (I1, I3)", async () => {
	const server = await world.serve({ engine: { verifierThreads: 2 } });
	const stranger = privateKeyToAccount(generatePrivateKey());
	const channels = await Promise.all(
		Array.from({ length: CHANNELS }, async () => {
			const payer = await world.payer();
			const channel = await server.open(payer);
			const challenge = await server.challenge("/session");
			const before = (await server.amounts(channel))?.spent ?? 0n;
			return { payer, channel, challenge, before };
		}),
	);
	for (let round = 1n; round <= BigInt(ROUNDS); round++) {
		const sent = channels.flatMap(({ payer, channel, challenge, before }) => {
			const amount = before + round * PRICE;
			const good = payer.voucher(challenge, channel, amount);
			const forged = payer.voucher(challenge, channel, amount + 1n, { signer: stranger });
			const moved = good.then((draft) => withPayload(draft, { cumulativeAmount: String(amount + 2n) }));
			return [good, forged, moved];
		});
		const drafts = await Promise.all(sent);
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft)));
		for (const [n, answer] of answers.entries()) {
			if (n % 3 === 0) expectPaid(answer);
			else expect(answer.status).toBe(402);
		}
	}
	for (const { channel, before } of channels) {
		const spent = before + BigInt(ROUNDS) * PRICE;
		expect(await server.amounts(channel)).toMatchObject({ spent, acceptedCumulative: spent });
	}
});
