import {
	type Address,
	BaseError,
	type Hex,
	keccak256,
	parseTransaction,
	recoverTransactionAddress,
	serializeTransaction,
	type TransactionSerializableEIP1559,
} from "viem";
import { transferCall } from "../../escrow/calls.ts";
import { isContractFault } from "../../escrow/nodeFault.ts";
import { type ChargeTransactionPayload, type Problem, problem } from "../../protocol/index.ts";
import { parseSignature } from "../../voucher/index.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedCharge } from "../evm/method.ts";
import { challengeKey, transactionKey } from "../proofs.ts";
import { sourceOn } from "../source.ts";
import { isKnown } from "./chain.ts";
import { failed, transfersOf, type Verified } from "./means.ts";
import { readProof } from "./order.ts";

/** The longest transaction that is looked at. A transfer takes about 180 bytes, an access list makes it longer. */
const MAX_BYTES = 2_048;

/** How many transactions of one sender are followed at a time: what is never mined costs its sender nothing. */
const MAX_PENDING = 16;

/** A transfer as its payer signed it. */
type SignedTransfer = Readonly<{ from: Address; nonce: number; gas: bigint; maxFeePerGas: bigint; data: Hex }>;

/**
 * `type="transaction"`: the payer's own transfer, which we broadcast (draft-evm-charge-00, Transaction Verification).
 *
 * Its signature says nothing of the challenge, and whatever is on chain can be shown by everybody: so it must be new to the
 * node, or be the one that was recorded for this very challenge. What somebody has broadcast elsewhere pays nothing here.
 */
export async function transactionMeans(
	context: EngineContext,
	{ credential, request }: ScreenedCharge,
	{ signature: raw }: ChargeTransactionPayload,
): Promise<Verified> {
	const { terms, client } = context;
	const parsed = parse(raw);
	if (parsed === undefined)
		return { problem: problem("malformed-credential", "payload.signature is no signed transaction.") };
	const expected = transferCall(terms.currency, request.recipient, request.amount).data;
	const transfer = await readTransfer(raw, parsed, { ...terms, expected });
	if ("problem" in transfer) return transfer;
	const { from } = transfer;
	if (credential.source !== undefined && sourceOn(terms.chainId, credential.source) !== from)
		return failed("The transaction's sender is not the source.", { sender: from });

	const hash = keccak256(raw);
	const token = transactionKey(terms.chainId, hash);
	const own = challengeKey(credential.challenge);
	const isRecorded = async () => (await readProof(context, token))?.usedBy === own;
	// The record once more at the end: ours is on disk before any node has heard of it.
	if (!(await isRecorded()) && (await isKnown(client, hash)) && !(await isRecorded()))
		return failed("This transaction was sent before it came here with this challenge; sign another one.", { hash });
	return {
		type: "transaction",
		payer: from,
		keyOwner: from,
		token,
		transfers: transfersOf(request),
		late: () => undefined,
		foresee: () => foresee(context, transfer),
		movement: { kind: "signed", hash, raw, from, nonce: transfer.nonce },
	};
}

/** `undefined` for what is no transaction at all; it may be of a type that is not taken. */
function parse(raw: Hex): ReturnType<typeof parseTransaction> | undefined {
	if (raw.length > 2 + 2 * MAX_BYTES) return undefined;
	try {
		return parseTransaction(raw);
	} catch {
		return undefined;
	}
}

/** Transaction Verification 1 to 5: everything that the bytes alone tell. */
async function readTransfer(
	raw: Hex,
	parsed: ReturnType<typeof parseTransaction>,
	{ chainId, currency, expected }: Readonly<{ chainId: number; currency: Address; expected: Hex }>,
): Promise<SignedTransfer | Readonly<{ problem: Problem }>> {
	if (parsed.type !== "eip1559")
		return failed("The transaction is not of type 2 (EIP-1559).", { type: parsed.type ?? "unknown" });
	const { to, data = "0x", value = 0n, nonce = 0, gas = 0n, maxFeePerGas = 0n } = parsed;
	if (parsed.chainId !== chainId)
		return failed("The transaction is for another chain.", { chainId: parsed.chainId, expected: chainId });
	if (to?.toLowerCase() !== currency) return failed("The transaction is not to the currency.", { to: to ?? null });
	if (value !== 0n) return failed("The transaction sends native coins.", { value });
	if (data.slice(0, 10) !== expected.slice(0, 10))
		return failed("The transaction does not call transfer(address,uint256).", { selector: data.slice(0, 10) });
	if (data !== expected)
		return failed("The transfer is not of exactly the amount to the recipient.", { calldata: data.slice(0, 138) });
	const from = await signerOf(raw, parsed);
	if (from === undefined) return failed("The transaction's signature is not good.");
	return { from, nonce, gas, maxFeePerGas, data };
}

/** Who signed it; `undefined` for a signature that nodes refuse, and for bytes that are not the one way to write it. */
async function signerOf(raw: Hex, parsed: TransactionSerializableEIP1559): Promise<Address | undefined> {
	const { r, s, yParity } = parsed;
	if (r === undefined || s === undefined || (yParity !== 0 && yParity !== 1)) return undefined;
	try {
		parseSignature(`0x${word(r)}${word(s)}${yParity === 0 ? "1b" : "1c"}`);
		if (serializeTransaction(parsed, { r, s, yParity }) !== raw) return undefined;
		const address = await recoverTransactionAddress({ serializedTransaction: raw as `0x02${string}` });
		return address.toLowerCase() as Address;
	} catch {
		// The libraries have a word of their own for each thing that can be wrong with it.
		return undefined;
	}
}

function word(hex: Hex): string {
	return hex.slice(2).padStart(64, "0");
}

/** Whether it would be mined and succeed: nothing of ours is spent on it, but somebody would wait for it. */
async function foresee(
	{ client, terms, transactions }: EngineContext,
	{ from, nonce, gas, maxFeePerGas, data }: SignedTransfer,
): Promise<Problem | undefined> {
	if (transactions.countFrom(from) >= MAX_PENDING)
		return failed(`${MAX_PENDING} transactions of this sender are on their way already.`, { sender: from }).problem;
	const [used, next, balance, block] = await Promise.all([
		client.getTransactionCount({ address: from, blockTag: "latest" }),
		client.getTransactionCount({ address: from, blockTag: "pending" }),
		client.getBalance({ address: from }),
		client.getBlock({ blockTag: "latest" }),
	]);
	if (nonce < used) return failed("The transaction's nonce was used.", { nonce, next }).problem;
	if (nonce > next) return failed("The transaction's nonce leaves a gap.", { nonce, next }).problem;
	if (gas > block.gasLimit) return failed("The transaction's gas limit is above a block's.", { gas }).problem;
	const { baseFeePerGas } = block;
	if (baseFeePerGas !== null && maxFeePerGas < baseFeePerGas)
		return failed("The transaction's maxFeePerGas is below the base fee.", { maxFeePerGas, baseFeePerGas }).problem;
	const cost = gas * maxFeePerGas;
	if (balance < cost) return failed("The sender can't pay the transaction's gas.", { cost, balance }).problem;
	try {
		const answer = await client.call({ account: from, to: terms.currency, data, gas });
		// Some tokens say no without reverting, some say nothing at all.
		const saysNo = answer.data !== undefined && /^0x0*$/.test(answer.data) && answer.data !== "0x";
		return saysNo ? failed("The token refuses the transfer.").problem : undefined;
	} catch (error) {
		if (isContractFault(error) || isGasTooLow(error))
			return failed("The transfer would revert, or run out of gas.").problem;
		throw error;
	}
}

function isGasTooLow(error: unknown): boolean {
	return error instanceof BaseError && /intrinsic gas|gas limit/i.test(`${error.shortMessage} ${error.details}`);
}
