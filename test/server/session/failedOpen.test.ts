import { describe, expect, it } from "vitest";
import type { OutboxEntry } from "../../../src/escrow/outbox.ts";
import type { EngineContext } from "../../../src/server/context.ts";
import { consumedChallenge, sessionChallengeKey } from "../../../src/server/proofs.ts";
import { openConclusions } from "../../../src/server/session/credit.ts";
import { openingPurpose } from "../../../src/server/session/opening.ts";
import { MemoryStore } from "../../../src/server/store/memoryStore.ts";
import { chainId, channelId, escrow, identity, open, payee, token, voucher } from "../ledgerSteps.ts";

const EXPIRES_AT = 1_900_000_000_000;
const key = sessionChallengeKey("first", EXPIRES_AT);
const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
const terms = { chainId, escrow, recipient: payee, currency: token };

const entry: OutboxEntry = {
	hash: `0x${"11".repeat(32)}`,
	raw: "0x",
	chainId,
	from: payee,
	nonce: 0,
	purpose: openingPurpose(
		{
			identity,
			salt: `0x${"22".repeat(32)}`,
			voucher: voucher(100n, "first"),
			challengeExpiresAt: EXPIRES_AT,
			challengeIssuedAt: 0,
			minimum: 1n,
			price: 0n,
		},
		terms,
	),
	state: "pending",
	createdAt: 0,
};

/** A store whose open of a channel under the challenge `first` fails. */
async function afterFailedOpen({ isOpen }: { isOpen: boolean }) {
	const store = new MemoryStore();
	const { durable } = await store.transact({ channel: channelId, proofs: [key] }, () => ({
		value: undefined,
		writes: {
			...(isOpen && { channel: open() }),
			proofs: [consumedChallenge("first", EXPIRES_AT, channelId, store)],
		},
	}));
	await durable;
	await openConclusions({ store, log, terms } as unknown as EngineContext).failed(entry, "reverted");
	const { value } = await store.transact({ proofs: [key] }, (view) => ({ value: view.proof(key) }));
	return value;
}

describe("the challenge of an open that did not go through", () => {
	it("is as good as new", async () => {
		expect(await afterFailedOpen({ isOpen: false })).toBeUndefined();
	});

	it("stays the channel's where somebody else's transaction has opened it under the same one (D9)", async () => {
		expect(await afterFailedOpen({ isOpen: true })).toMatchObject({ state: "used", usedBy: channelId });
	});
});
