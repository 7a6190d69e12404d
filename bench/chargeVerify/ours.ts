/**
 * Sluice's side: each credential is screened, verified, looked up and held for its payer, with its transaction's record on
 * disk beside it. Nothing is signed or sent by us: that is where a charge becomes the chain's affair.
 */
import { join } from "node:path";
import { type Address, createPublicClient, custom, keccak256, toHex } from "viem";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { TransactionPendingError } from "../../src/escrow/transactionErrors.ts";
import type { EngineContext } from "../../src/server/context.ts";
import { EvmMethod } from "../../src/server/evm/method.ts";
import type { EvmOffer, EvmRequest } from "../../src/server/evm/offer.ts";
import { createContexts } from "../../src/server/evm/start.ts";
import { Listeners } from "../../src/server/hooks.ts";
import { checkOptions } from "../../src/server/options.ts";
import type { Screened } from "../../src/server/screen.ts";
import type { TransactionRequest, Transactions } from "../../src/server/transactions.ts";
import { eachAtOnce, paidRequest } from "../lib/pay.ts";
import { measureRound } from "../lib/round.ts";
import { engineOptions, openShop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import type { Place } from "../lib/stage.ts";
import { chargeHeader, makePayers } from "./charges.ts";

const PRICE = 100n;
const URL_PATH = "/charge";
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** About as long as a signed transaction with such an authorization. */
const RAW = toHex(new Uint8Array(450));

export type Start = Readonly<{ place: Place; folder: string; fsync: boolean; payers: number }>;
export type Order = Readonly<{ count: number; atOnce: number }>;

serveSide(async ({ place, folder, fsync, payers: payerCount }: Start) => {
	const shop = await openShop(place, { folder: join(folder, fsync ? "synced" : "unsynced"), fsync });
	const { engine, store } = shop;
	const options = engineOptions(place, store);
	const parts = { options, settings: checkOptions(options), listeners: new Listeners(SILENT), log: SILENT };
	const [context] = await createContexts({ ...parts, now: Date.now });
	if (context?.tokenDomain === undefined) throw new Error("the stage's token takes no authorizations");
	const { tokenDomain, terms } = context;
	const method = new EvmMethod([upToTheChain(context, place.chainId)], [], []);
	const offer = method.parseOffer({ price: String(PRICE), intent: "charge" });
	const payers = makePayers(payerCount);
	let next = 0;

	/** Asked for and signed before the clock runs. */
	function prepare(count: number): readonly string[] {
		return Array.from({ length: count }, () => {
			const payer = payers[next++ % payers.length];
			const [challenge] = engine.challenge([offer]);
			if (payer === undefined || challenge === undefined) throw new Error("nobody pays");
			return chargeHeader(tokenDomain, challenge, payer, { to: terms.recipient, value: PRICE });
		});
	}

	async function hold(authorization: string): Promise<void> {
		const request = paidRequest([offer], URL_PATH, authorization);
		const screened = engine.screen(request);
		if (screened.kind === "refused") throw new Error(screened.problem.detail);
		const admission = await method.admit(request, screened as Screened<EvmOffer, EvmRequest>);
		// It is held, and its transaction is not mined yet.
		if (admission.kind !== "refused" || admission.problem.status !== 503)
			throw new Error(admission.kind === "refused" ? admission.problem.detail : `a charge was ${admission.kind}`);
	}

	return {
		info: {},
		round({ count, atOnce }: Order) {
			const headers = prepare(count);
			return measureRound(count, (latenciesMs) => eachAtOnce(headers, atOnce, hold, latenciesMs));
		},
		stop: shop.close,
	};
});

/** The same steps, by a chain that says at once that every payer is rich, and up to where a transaction would be sent. */
function upToTheChain(context: EngineContext, chainId: number): EngineContext {
	const balance = toHex(10n ** 18n, { size: 32 });
	const client = createPublicClient({ transport: custom({ request: async () => balance }) });
	let nonce = 0;
	const transactions: Pick<Transactions, "join" | "isUnderWay" | "perform"> = {
		join: () => undefined,
		isUnderWay: () => false,
		async perform({ purpose, record }: TransactionRequest) {
			const entry = recordOf(nonce++, { chainId, from: context.sender, purpose });
			await record(entry);
			throw new TransactionPendingError(entry.hash);
		},
	};
	return { ...context, client, transactions: transactions as Transactions };
}

function recordOf(
	nonce: number,
	{ chainId, from, purpose }: Readonly<{ chainId: number; from: Address; purpose: OutboxEntry["purpose"] }>,
): OutboxEntry {
	const hash = keccak256(toHex(nonce));
	return { hash, raw: RAW, chainId, from, nonce, purpose, state: "pending", createdAt: Date.now() };
}
