import type { Address } from "viem";
import type { SessionRequest } from "../protocol/index.ts";
import type { PayerChannel } from "./channel.ts";

/** Channels can be shared by all offers with the same chain, escrow, token and payee. */
export function channelKey({ currency, recipient, methodDetails }: SessionRequest): string {
	return `${methodDetails.chainId}:${methodDetails.escrowContract}:${currency}:${recipient}`;
}

/** Channels belong to one origin each: a voucher for one is a bearer token that no other may see. */
export function keyOf(request: Readonly<{ origin: string }>, terms: SessionRequest): string {
	return `${request.origin} ${channelKey(terms)}`;
}

/** The key of a channel that there is already. */
export function keyOfChannel({ resource, parameters }: Pick<PayerChannel, "resource" | "parameters">): string {
	const { chainId, escrow, token, payee } = parameters;
	return `${new URL(resource.url).origin} ${chainId}:${escrow}:${token}:${payee}`;
}

/** By which a store keeps what belongs to a key: the wallet may be used with several accounts. */
export function keptKey(payer: Address, key: string): string {
	return `${payer} ${key}`;
}
