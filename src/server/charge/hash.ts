import { type Address, type Hex, isAddressEqual, parseEventLogs, type TransactionReceipt } from "viem";
import { awaitReceipt } from "../../escrow/confirmations.ts";
import { erc3009Abi } from "../../escrow/generated/erc3009.ts";
import { type ChargeHashPayload, problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedCharge } from "../evm/method.ts";
import { isMinedBefore } from "../minedBefore.ts";
import { issuedAt, transactionKey } from "../proofs.ts";
import { sourceOn } from "../source.ts";
import { withinWaits } from "../waits.ts";
import { isKnown, readReceipt } from "./chain.ts";
import { failed, hasAllTransfers, type Transfer, transfersOf, type Verified } from "./means.ts";

const POLL_MS = 500;

const RETRY_SECONDS = 5;

/**
 * `type="hash"`: a transfer that the client has made itself (draft-evm-charge-00, Hash Verification and Hash Credential
 * Binding). Nothing binds it to the challenge, and the chain is public: whoever shows a hash first has it. So we want the
 * payer named, take no payment that was there before the challenge, none of our own transactions, none that is a signature
 * of somebody else's to begin with, and each hash once for ever.
 */
export async function hashMeans(
	context: EngineContext,
	{ credential, request }: ScreenedCharge,
	{ hash }: ChargeHashPayload,
): Promise<Verified> {
	const { terms, limits, now } = context;
	const payer = sourceOn(terms.chainId, credential.source);
	if (payer === undefined) return failed(`type "hash" needs a source did:pkh:eip155:${terms.chainId}:<payer>.`);
	const transfers = transfersOf(request);
	const notBefore = issuedAt(credential.challenge, limits, now());
	return {
		type: "hash",
		payer,
		// No signature says who sends this: a key is good for the same hash alone (I3).
		keyOwner: `${payer} ${hash}`,
		token: transactionKey(terms.chainId, hash),
		transfers,
		late: () => undefined,
		foresee: async () => undefined,
		movement: { kind: "moved", hash, find: () => find(context, { hash, payer, transfers, notBefore }) },
	};
}

type Claim = Readonly<{ hash: Hex; payer: Address; transfers: readonly Transfer[]; notBefore: number }>;

/** `undefined`: the transfer is there. */
async function find(
	context: EngineContext,
	{ hash, payer, transfers, notBefore }: Claim,
): Promise<Refused | undefined> {
	const { client, terms, sender } = context;
	const receipt = await receiptOf(context, hash);
	if (receipt === undefined) {
		const detail = "The transaction is not mined, or not deep enough, yet; send the same request again.";
		return refused(problem("service-unavailable", detail, { hash }), RETRY_SECONDS);
	}
	if (receipt.status !== "success") return refused(failed("The transaction reverted.", { hash }).problem);
	const { currency } = terms;
	if (!hasAllTransfers(receipt, currency, payer, transfers)) {
		const [expected] = transfers;
		const detail = "The transaction has no Transfer of exactly the amount from the source to the recipient.";
		return refused(failed(detail, { hash, from: payer, ...expected }).problem);
	}
	if (isAddressEqual(receipt.from, sender) || isBySignature(receipt, currency, payer))
		return refused(failed("This transfer pays for something else already.", { hash }).problem);
	if (await isMinedBefore(client, receipt, notBefore))
		return refused(failed("The transaction was mined before its challenge was issued.", { hash }).problem);
	return undefined;
}

/** A revert is final enough: whoever sent it can send another one. */
async function receiptOf({ client, limits }: EngineContext, hash: Hex): Promise<TransactionReceipt | undefined> {
	const seen = await readReceipt(client, hash);
	if (seen?.status === "reverted") return seen;
	// What no node knows is not waited for: anyone can make up a hash.
	if (seen === undefined && !(await isKnown(client, hash))) return undefined;
	if (seen !== undefined && limits.confirmations === 1) return seen;
	const { confirmations } = limits;
	return withinWaits(client, limits, (timeoutMs) =>
		awaitReceipt(client, hash, { confirmations, timeoutMs, pollMs: POLL_MS }),
	);
}

/** An authorization of the payer's was executed: it is the answer to some challenge, whoever sent it. */
function isBySignature(receipt: TransactionReceipt, token: Address, payer: Address): boolean {
	return parseEventLogs({ abi: erc3009Abi, eventName: "AuthorizationUsed", logs: receipt.logs }).some(
		({ address, args }) => isAddressEqual(address, token) && isAddressEqual(args.authorizer, payer),
	);
}
