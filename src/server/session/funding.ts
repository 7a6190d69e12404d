/**
 * Deposits that the payer signs and the server sends (draft-evm-session-00, Server-Paid Fees): by ERC-3009 or by Permit2,
 * for an opening or a top-up. What differs between them is said here; what is done with them is the same.
 */
import type { Address, Hex, PublicClient } from "viem";
import {
	type Call,
	openWithAuthorizationCall,
	openWithPermit2Call,
	topUpWithAuthorizationCall,
	topUpWithPermit2Call,
} from "../../escrow/calls.ts";
import { isPermit2NonceUsed, readAuthorizationState } from "../../escrow/reads.ts";
import {
	type Eip3009Authorization,
	type OpenPayload,
	type Problem,
	problem,
	type TopUpPayload,
	type VoucherDeposit,
} from "../../protocol/index.ts";
import {
	authorizationDigest,
	type ChannelPermit,
	channelPermitDigest,
	openAuthorizationNonce,
	topUpAuthorizationNonce,
} from "../../voucher/index.ts";
import type { ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { drawOf } from "../draws.ts";
import { permitKey, signedDepositKey } from "../proofs.ts";
import type { Draw } from "../transactions.ts";
import { isValidNow } from "../validity.ts";
import { unsupportedProblem } from "./order.ts";
import { signatureProblem } from "./signed.ts";

/** A signed deposit whose fields say what they must; its signature and its time are not looked at yet. */
export type Funding = Readonly<{
	/** Whose tokens move, and whose signature it is. */
	from: Address;
	/** Base units. */
	amount: bigint;
	/** Names the right to move these tokens once (I4). */
	key: string;
	/** Moves them. */
	call: Call;
	/** What it takes of what `from` has. */
	draw: Draw;
	/** What was signed. */
	digest: Uint8Array;
	signature: Hex;
	/** Unix seconds between which it can be executed, both excluded. */
	validAfter: bigint;
	validBefore: bigint;
	/** Whether the chain has executed it, or will never: its nonce is used. */
	isUsed(client: PublicClient): Promise<boolean>;
}>;

type OpenDeposit = Extract<OpenPayload, { type: "authorization" | "permit2" }>;
type TopUpDeposit = Extract<TopUpPayload, { type: "authorization" | "permit2" }>;
type Merged<Action> = Extract<VoucherDeposit, { action: Action }>;
type Wrong = Readonly<{ problem: Problem }>;

/** The deposit that opens a channel, of an `open` or merged with a voucher; or what is wrong with its fields. */
export function openFunding(
	context: EngineContext,
	deposit: OpenDeposit | Merged<"open">,
	{ payer, payee, token, authorizedSigner }: ChannelIdentity,
): Funding | Wrong {
	const { escrow } = context.terms;
	const { salt, signature } = deposit;
	const channel = { payee, token, salt, authorizedSigner };
	if (deposit.type === "authorization") {
		const { authorization } = deposit;
		const nonce = openAuthorizationNonce({ from: payer, payee, token, salt, authorizedSigner });
		return byAuthorization(context, authorization, nonce, signature, () =>
			openWithAuthorizationCall(escrow, channel, { ...authorization, signature }),
		);
	}
	const { authorization } = deposit;
	if (authorization.witness.payee !== payee) {
		const { payee: named } = authorization.witness;
		return wrong("authorization.witness.payee must be the recipient.", { payee: named, expected: payee });
	}
	return byPermit2(context, authorization, signature, (permit) => openWithPermit2Call(escrow, channel, permit));
}

/** The deposit that tops up a channel, of a `topUp` or merged with a voucher; or what is wrong with its fields. */
export function topUpFunding(
	context: EngineContext,
	deposit: TopUpDeposit | Merged<"topUp">,
	channelId: Hex,
): Funding | Wrong {
	const { escrow } = context.terms;
	const { signature } = deposit;
	if (deposit.type === "authorization") {
		const { authorization, salt } = deposit;
		const { from, value } = authorization;
		const nonce = topUpAuthorizationNonce({ channelId, additionalDeposit: value, from, topUpSalt: salt });
		return byAuthorization(context, authorization, nonce, signature, () =>
			topUpWithAuthorizationCall(escrow, channelId, salt, { ...authorization, signature }),
		);
	}
	return byPermit2(context, deposit.authorization, signature, (permit) =>
		topUpWithPermit2Call(escrow, channelId, permit),
	);
}

/** What is wrong with the signature of a deposit, if anything (EIP-3009, Permit2; ERC-1271 where the payer is a contract). */
export async function fundingSignatureProblem(
	{ signatures }: EngineContext,
	{ from, digest, signature }: Funding,
	channelId: Hex,
): Promise<Problem | undefined> {
	return signatureProblem(await signatures.verifyDigest(from, digest, signature), channelId, "deposit");
}

/** Whether there is time enough to execute it. */
export function fundingTimeProblem(
	context: EngineContext,
	{ validAfter, validBefore }: Pick<Funding, "validAfter" | "validBefore">,
): Problem | undefined {
	if (isValidNow({ validAfter, validBefore }, context)) return undefined;
	const detail = "The authorization is not valid now, or not for long enough.";
	return problem("payment-expired", detail, { validAfter, validBefore });
}

/** Whether the challenge lists this type (draft-evm-session-00, Method Details). */
export function typeProblem(
	{ request }: Readonly<{ request: Readonly<{ methodDetails: Readonly<{ credentialTypes?: readonly string[] }> }> }>,
	type: string,
): Problem | undefined {
	const listed = request.methodDetails.credentialTypes ?? ["hash"];
	return listed.includes(type) ? undefined : unsupportedProblem(`type "${type}"`);
}

/** draft-evm-session-00, Open Payload (feePayer: true), EIP-3009 shape. */
function byAuthorization(
	context: EngineContext,
	authorization: Eip3009Authorization,
	expectedNonce: Hex,
	signature: Hex,
	call: () => Call,
): Funding | Wrong {
	const { terms, tokenDomain } = context;
	if (tokenDomain === undefined) return { problem: unsupportedProblem('type "authorization"') };
	const { from, to, value: amount, validAfter, validBefore, nonce } = authorization;
	if (to !== terms.escrow) return wrong("authorization.to must be the escrow.", { to, expected: terms.escrow });
	if (nonce !== expectedNonce) {
		return wrong("authorization.nonce does not follow from the channel's parameters.", { nonce });
	}
	return {
		from,
		amount,
		key: signedDepositKey(terms, { type: "authorization", from, amount, nonce }),
		call: call(),
		draw: drawOf(context, { type: "authorization", from, amount }),
		digest: authorizationDigest("receive", tokenDomain, authorization),
		signature,
		validAfter,
		validBefore,
		isUsed: (client) => readAuthorizationState(client, terms.currency, from, nonce),
	};
}

/** draft-evm-session-00, Open Payload (feePayer: true), Permit2 shape. The spender is always the escrow. */
function byPermit2(
	context: EngineContext,
	authorization: Pick<ChannelPermit, "permitted" | "nonce" | "deadline" | "witness"> & Readonly<{ from: Address }>,
	signature: Hex,
	call: (permit: Readonly<{ from: Address; amount: bigint; nonce: bigint; deadline: bigint; signature: Hex }>) => Call,
): Funding | Wrong {
	const { terms, permit2Domain } = context;
	if (permit2Domain === undefined) return { problem: unsupportedProblem('type "permit2"') };
	const { from, permitted, nonce, deadline, witness } = authorization;
	const { token, amount } = permitted;
	if (token !== terms.currency) {
		return wrong("authorization.permitted.token must be the currency.", { token, expected: terms.currency });
	}
	return {
		from,
		amount,
		key: signedDepositKey(terms, { type: "permit2", from, amount, nonce }),
		call: call({ from, amount, nonce, deadline, signature }),
		draw: drawOf(context, {
			type: "permit2",
			from,
			amount,
			once: permitKey(terms.chainId, permit2Domain.permit2, from, nonce),
		}),
		digest: channelPermitDigest(permit2Domain, { permitted, spender: terms.escrow, nonce, deadline, witness }),
		signature,
		validAfter: 0n,
		// Permit2's last second counts, ERC-3009's does not.
		validBefore: deadline + 1n,
		isUsed: (client) => isPermit2NonceUsed(client, permit2Domain.permit2, from, nonce),
	};
}

function wrong(detail: string, values: Record<string, unknown>): Wrong {
	return { problem: problem("bad-request", detail, values) };
}
