import type { PaymentClient, PaymentClientOptions } from "../../client/index.ts";
import { bookChecks, figures, readBooks } from "./books.ts";
import type { DemoOptions } from "./demo.ts";
import { type Check, check, type Outcome } from "./report.ts";
import { Wire } from "./wire.ts";
import { PRICE, type World } from "./world.ts";

/** A voucher pays for so many tokens. */
const STEP_TOKENS = 100;

/** How much the payer signs for beyond what it has got: a voucher more than the one that is being used up. */
const AHEAD_TOKENS = 2 * STEP_TOKENS;

/**
 * One answer, token by token: the client pays as it reads. It goes through a wire that is watched from outside of both
 * sides, so that the leads that are told are those of the bytes that passed, not what either side believes (see `Wire` and
 * `Lead` for what is counted where).
 */
export async function streamScenario(
	world: World,
	{ tokens }: Pick<DemoOptions, "tokens">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const paid = PRICE * BigInt(tokens);
	const wire = await Wire.open(world.server.url, PRICE);
	try {
		const agent = streamAgent(world, wire.url, paid, { stream: { aheadUnits: AHEAD_TOKENS, stepUnits: STEP_TOKENS } });
		progress(`the agent reads ${tokens} tokens at ${PRICE} base units, a voucher every ${STEP_TOKENS}`);
		const step = Math.max(1, Math.floor(tokens / 4));
		const startedAt = performance.now();
		let read = 0;
		for await (const { data } of agent.stream(`${wire.url}/stream?tokens=${tokens}`)) {
			// Tokens come in their order, each once.
			if (data !== `token ${++read}`) throw new Error(`the ${read}th token that came is "${data}"`);
			if (read % step === 0) progress(`  ${read} read`);
		}
		const secondsPaid = (performance.now() - startedAt) / 1_000;

		progress("the agent closes its channel");
		const vouchers = new Set(wire.passed.flatMap(({ cumulativeAmount }) => cumulativeAmount ?? [])).size;
		const [closed] = await agent.close();
		if (closed === undefined) throw new Error("the agent had no channel to close");

		const books = await readBooks(world, [closed.channel.channelId]);
		const [book] = books.channels;
		if (book === undefined) throw new Error("there are no books of the channel");
		const ok = read === tokens ? 1 : 0;
		const outcome = await figures(world, books, { scenario: "stream", requests: 1, ok, secondsPaid });
		const { maxUnpaidUnits, maxPrepaidUnits, delivered } = wire.lead;
		return {
			...outcome,
			tokens,
			tokensDelivered: delivered,
			tokensPerSecond: Math.round(tokens / secondsPaid),
			vouchers,
			maxUnpaidUnits,
			maxPrepaidUnits,
			checks: [
				check("every token was read, in its order", tokens, read),
				check("as many tokens passed on the wire", tokens, delivered),
				atMost("tokens that the payer was ever ahead of what it had paid for", 1, maxUnpaidUnits),
				atMost("tokens that the payer had ever paid for ahead", AHEAD_TOKENS, maxPrepaidUnits),
				atMost("vouchers: the first token's, one for each step, the last rest's", tokens / STEP_TOKENS + 2, vouchers),
				check("the ledger accepted what was asked for", paid, book.acceptedCumulative),
				check("the ledger spent what was delivered", paid, book.spent),
				check("the escrow settled what was spent", book.spent, book.settledOnChain),
				check("the payer's own count is the same", book.spent, closed.channel.consumed),
				check("the payer got the rest back", book.deposit - book.settledOnChain, books.payerRefunded),
				check("two transactions in all", 2, outcome.sessionTransactions),
				...bookChecks(books),
			],
		};
	} finally {
		await wire.close();
	}
}

/**
 * A payer of streams.
 *
 * @param url where it goes
 * @param maxStream the most that a whole answer may cost, in base units: what was asked for and no token more
 */
export function streamAgent(
	world: World,
	url: string,
	maxStream: bigint,
	options: Partial<PaymentClientOptions>,
): PaymentClient {
	const { chain, token, escrow, deposit } = world;
	const policy = {
		chainIds: [chain.chainId],
		tokens: [token],
		escrows: [escrow],
		hosts: [new URL(url).host],
		maxDeposit: deposit,
		maxPrice: PRICE,
		maxStream,
	};
	return world.agent({ policy, ...options });
}

function atMost(name: string, most: number, actual: number): Check {
	return { name, expected: `at most ${Math.ceil(most)}`, actual: String(actual), pass: actual <= Math.ceil(most) };
}
