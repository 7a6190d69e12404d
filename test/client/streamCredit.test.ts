/** Whatever a server says, it never gets a voucher for more than was delivered and the credit that the policy gives (I11). */

import fc from "fast-check";
import type { LocalAccount } from "viem";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createStage, type Stage } from "./stage.ts";
import { type Asked, fakeMeter, ORIGIN, PAYEE, responseOf, until } from "./streamStage.ts";
import { clientFor, paymentRequired } from "./support.ts";

const DEPOSIT = 1_000_000n;

let world: Stage;
let account: LocalAccount;
beforeAll(async () => {
	world = await createStage();
	account = await world.payer();
});
afterAll(() => world.stop());

type Step =
	| Readonly<{ kind: "deliver"; events: number }>
	/** Beyond what the server has taken so far, in units. */
	| Readonly<{ kind: "need"; beyond: number }>
	| Readonly<{ kind: "absolute"; required: bigint }>
	| Readonly<{ kind: "receipt"; spent: bigint }>
	| Readonly<{ kind: "stranger" }>
	| Readonly<{ kind: "noise"; text: string }>
	| Readonly<{ kind: "heads"; answer: "honest" | "low" | "high" | "none" | "fresh" | "broken" }>;

const step: fc.Arbitrary<Step> = fc.oneof(
	{
		weight: 4,
		arbitrary: fc.record({ kind: fc.constant("deliver" as const), events: fc.integer({ min: 1, max: 30 }) }),
	},
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("need" as const), beyond: fc.integer({ min: 0, max: 60 }) }) },
	fc.record({ kind: fc.constant("absolute" as const), required: fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }) }),
	fc.record({ kind: fc.constant("receipt" as const), spent: fc.bigInt({ min: 0n, max: 2n * DEPOSIT }) }),
	fc.constant({ kind: "stranger" as const }),
	fc.record({ kind: fc.constant("noise" as const), text: fc.string({ maxLength: 20 }) }),
	fc.record({
		kind: fc.constant("heads" as const),
		answer: fc.constantFrom("honest", "low", "high", "none", "fresh", "broken"),
	}),
);

const run = fc.record({
	price: fc.bigInt({ min: 1n, max: 1_000n }),
	aheadUnits: fc.integer({ min: 1, max: 40 }),
	stepShare: fc.double({ min: 0, max: 1, noNaN: true }),
	minVoucherDelta: fc.option(fc.bigInt({ min: 1n, max: 1_000n }), { nil: undefined }),
	maxStream: fc.option(fc.bigInt({ min: 1_000n, max: 100_000n }), { nil: undefined }),
	steps: fc.array(step, { minLength: 1, maxLength: 25, size: "max" }),
});

it("is signed no more than was delivered and the credit, whatever the server says", async () => {
	await fc.assert(
		fc.asyncProperty(run, async ({ price, aheadUnits, stepShare, minVoucherDelta, maxStream, steps }) => {
			const details = minVoucherDelta === undefined ? {} : { minVoucherDelta: String(minVoucherDelta) };
			const meter = fakeMeter(world, { terms: { amount: String(price) }, details });
			let delivered = 0;
			const lead = [BigInt(aheadUnits) * price, (minVoucherDelta ?? 0n) + price].reduce((a, b) => (a > b ? a : b));
			const breaches: string[] = [];
			let highest = 0n;
			const watched: LocalAccount = {
				...account,
				async signTypedData(typedData) {
					const { primaryType, message } = typedData as unknown as {
						primaryType: string;
						message: { cumulativeAmount: bigint };
					};
					if (primaryType === "Voucher") {
						const amount = message.cumulativeAmount;
						const most = BigInt(delivered) * price + lead;
						if (amount > most) breaches.push(`${amount} was signed for ${delivered} units of ${price}, lead ${lead}`);
						if (amount > (maxStream ?? 1_000n)) breaches.push(`${amount} is over ${maxStream}`);
						if (amount < highest) breaches.push(`${amount} after ${highest}`);
						highest = amount;
					}
					return account.signTypedData(typedData);
				},
			};
			const payer = clientFor(
				world,
				watched,
				[new URL(ORIGIN).host],
				{ payees: [PAYEE], maxDeposit: DEPOSIT, ...(maxStream !== undefined && { maxStream }) },
				{
					fetch: meter.fetch,
					retry: { retries: 0 },
					stream: { aheadUnits, stepUnits: Math.max(1, Math.floor(stepShare * aheadUnits)) },
				},
			);
			const response = await payer.fetch(`${ORIGIN}/tokens`);
			const stream = await meter.stream();
			const reader = response.body?.getReader();
			let isOver = false;
			const all = (async () => {
				while (!(await reader?.read())?.done);
			})()
				.catch(() => undefined)
				.finally(() => {
					isOver = true;
				});
			for (const next of steps) {
				switch (next.kind) {
					case "deliver":
						delivered += next.events;
						stream.events(next.events);
						break;
					case "need":
						stream.need(meter.accepted() + BigInt(next.beyond) * price);
						break;
					case "absolute":
						stream.need(next.required);
						break;
					case "receipt":
						stream.receipt(next.spent);
						break;
					case "stranger":
						stream.need(10n ** 12n, { channelId: `0x${"77".repeat(32)}` });
						break;
					case "noise":
						stream.send(`event: payment-need-voucher\ndata: ${next.text.replace(/[\r\n]/g, " ")}\n\n`);
						break;
					case "heads":
						meter.onHead = (asked) => headAnswer(meter, stream.channelId, next.answer, asked);
				}
				// What it sets off has the time to begin.
				for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 1));
			}
			if (!isOver) stream.end();
			await all;
			await until(() => isOver);
			expect(breaches).toEqual([]);
			const [channel] = payer.channels;
			expect(channel?.consumed).toBeLessThanOrEqual(channel?.signed ?? -1n);
			expect(channel?.signed).toBeLessThanOrEqual(channel?.deposit ?? -1n);
		}),
		{ numRuns: 120 },
	);
}, 120_000);

function headAnswer(
	meter: ReturnType<typeof fakeMeter>,
	channelId: `0x${string}`,
	answer: Extract<Step, { kind: "heads" }>["answer"],
	{ amount = 0n }: Asked,
): Response | undefined {
	const receipt = (acceptedCumulative: bigint, spent: bigint) =>
		new Response(null, { headers: { "payment-receipt": meter.receiptFor(channelId, { acceptedCumulative, spent }) } });
	switch (answer) {
		case "honest":
			return undefined;
		case "low":
			return receipt(0n, 0n);
		case "high":
			return receipt(amount * 1_000n, amount * 1_000n);
		case "none":
			return new Response(null, { status: 200 });
		case "fresh":
			return responseOf(paymentRequired(meter.challenge()));
		default:
			throw new TypeError("fetch failed");
	}
}
