import type { Address, Hex, PublicClient } from "viem";
import type { Call } from "../../escrow/calls.ts";
import {
	closeWithAuthorizationCall,
	type SettlementRow,
	settleWithAuthorizationCall,
} from "../../escrow/payeeCalls.ts";
import { isPayeeNonceUsed } from "../../escrow/reads.ts";
import {
	type PayeeAuthorizationKind,
	signPayeeAuthorization,
	type TypedDataSigner,
	type VoucherDomain,
} from "../../voucher/index.ts";

/**
 * How long the payee's authorization is good. The draft asks for a short time: a relayer that does not send it now shall
 * not send it much later.
 */
export const RELAY_LIFETIME_SECONDS = 600;

/** At one settlement every fifteen seconds a channel reaches it after eight years. */
const HIGHEST_NONCE = 2n ** 24n - 1n;

/** What an authorization is made with. */
export type RelayParts = Readonly<{
	client: PublicClient;
	escrow: Address;
	/** The domain of that escrow's vouchers. */
	voucherDomain: VoucherDomain;
	/** Signs and receives the money; needs no gas. */
	payee: TypedDataSigner;
	/** Unix milliseconds. */
	now: () => number;
}>;

/** No nonce is left for an authorization: the channel is finalized. */
export class PayeeNoncesUsedError extends Error {
	override readonly name = "PayeeNoncesUsedError";
	readonly code = "PAYEE_NONCES_USED";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(
			`channel ${channelId} has no unused payee nonce up to ${HIGHEST_NONCE}: read whether it is finalized, or send from the payee itself`,
		);
		this.channelId = channelId;
	}
}

/**
 * How the payee's transactions get to the chain when another account pays the gas: the payee signs, anyone sends. Do this
 * anew for every attempt; for one channel only one attempt at a time, since two may get the same nonce and then only the
 * first of them succeeds.
 *
 * Source: draft-evm-session-00, "Payee-initiated functions".
 *
 * @param row The voucher. Its signature may be a contract's (ERC-1271); for a close up to the settled amount it may be
 * empty (`0x`).
 * @returns The call, good for `RELAY_LIFETIME_SECONDS` from now.
 * @throws {PayeeNoncesUsedError} for a finalized channel.
 * @throws {SignatureFormatError} when the payee's account returns something other than a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const call = await relayedCall({ client, escrow, voucherDomain, payee, now: Date.now }, "settle", row);
 * const entry = await relayersSender.broadcast({ ...call, purpose: { kind: "settle" } });
 * ```
 */
export async function relayedCall(
	parts: RelayParts,
	action: PayeeAuthorizationKind,
	row: SettlementRow,
): Promise<Call> {
	const { client, escrow, voucherDomain, payee, now } = parts;
	const { channelId, cumulativeAmount, signature: voucherSignature } = row;
	const [nonce, { timestamp }] = await Promise.all([unusedNonce(parts, channelId), client.getBlock()]);
	// The escrow goes by the chain's clock, which may be ahead of ours.
	const seconds = BigInt(Math.floor(now() / 1_000));
	const deadline = (timestamp > seconds ? timestamp : seconds) + BigInt(RELAY_LIFETIME_SECONDS);
	const authorization = { channelId, cumulativeAmount, nonce, deadline };
	const payeeSignature = await signPayeeAuthorization(action, payee, voucherDomain, authorization);
	const build = action === "settle" ? settleWithAuthorizationCall : closeWithAuthorizationCall;
	return build(escrow, { ...authorization, payeeSignature, voucherSignature });
}

/**
 * The first unused nonce of a channel whose nonces are used in their order, as here: doubled until one is unused, then
 * halved. Where others left gaps it is an unused one all the same, not always the first.
 */
async function unusedNonce({ client, escrow }: RelayParts, channelId: Hex): Promise<bigint> {
	let used = -1n;
	let unused = 0n;
	while (await isPayeeNonceUsed(client, escrow, channelId, unused)) {
		used = unused;
		unused = 2n * unused + 1n;
		if (unused > HIGHEST_NONCE) throw new PayeeNoncesUsedError(channelId);
	}
	while (unused - used > 1n) {
		const middle = (used + unused) / 2n;
		if (await isPayeeNonceUsed(client, escrow, channelId, middle)) used = middle;
		else unused = middle;
	}
	return unused;
}
