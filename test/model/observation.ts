/** Everything that can be seen of a state: on the chain, and in the model. Two flat records with the same keys. */
import type { Address, Hex } from "viem";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import type { Stage } from "./stage.ts";
import type { Channel, State } from "./terms.ts";
import { balance } from "./tokenModel.ts";

export type Observed = Readonly<Record<string, string>>;

/** Payee nonces worth looking at: the ends of the bitmap's words. */
export const PAYEE_NONCES = [0n, 1n, 255n, 256n, 2n ** 256n - 1n] as const;

export function projected(stage: Stage, state: State): Observed {
	const seen: Record<string, string> = {};
	for (const token of stage.tokens) {
		for (const holder of holders(stage)) {
			const known = state.tokens[token];
			seen[balanceKey(token, holder)] = String(known === undefined ? 0n : balance(known, holder));
		}
	}
	for (const [channelId, channel] of Object.entries(state.channels) as [Hex, Channel][]) {
		seen[`channel ${channelId}`] = channelText(channel);
		for (const nonce of PAYEE_NONCES) {
			// IRelayedProfile, isNonceUsed: the end of the channel uses up all of them.
			const isUsed = channel.finalized || state.usedPayeeNonces[`${channel.payee}:${channelId}:${nonce}`] === true;
			seen[nonceKey(channelId, nonce)] = String(isUsed);
		}
	}
	return seen;
}

/**
 * Bytes of call data in one of the calls that read the chain. All of them travel as the creation code of a contract that
 * is never deployed, which may have 49,152 bytes (EIP-3860) and takes several times as many as the calls themselves.
 */
const READ_BATCH_BYTES = 4_096;

/** The same from the chain, in as few calls as its limits allow. */
export async function observe(stage: Stage, state: State): Promise<Observed> {
	const { client } = stage.chain;
	const keys: string[] = [];
	const contracts: { address: Address; abi: typeof READS; functionName: string; args: readonly unknown[] }[] = [];
	const ask = (key: string, address: Address, functionName: string, args: readonly unknown[]) => {
		keys.push(key);
		contracts.push({ address, abi: READS, functionName, args });
	};
	for (const token of stage.tokens) {
		for (const holder of holders(stage)) ask(balanceKey(token, holder), token, "balanceOf", [holder]);
	}
	for (const channelId of Object.keys(state.channels) as Hex[]) {
		ask(`channel ${channelId}`, state.escrow, "getChannel", [channelId]);
		for (const nonce of PAYEE_NONCES) ask(nonceKey(channelId, nonce), state.escrow, "isNonceUsed", [channelId, nonce]);
	}
	const values = await client.multicall({
		contracts,
		allowFailure: false,
		deployless: true,
		batchSize: READ_BATCH_BYTES,
	});
	return Object.fromEntries(keys.map((key, index) => [key, text(values[index])]));
}

const READS = [...paymentChannelEscrowAbi, ...testUsdcAbi];

function text(value: unknown): string {
	return typeof value === "object" && value !== null ? channelText(value as Channel) : String(value);
}

/** Everybody whom a token of these tests can end up with. */
function holders({ cast, initial }: Stage): readonly Address[] {
	return [...cast.payers, ...cast.payees, cast.funder, cast.relayer, cast.stranger, initial.escrow];
}

function channelText(channel: Channel): string {
	const { payer, payee, token, authorizedSigner, deposit, settled, closeRequestedAt, finalized } = channel;
	return [payer, payee, token, authorizedSigner, deposit, settled, closeRequestedAt, finalized].join(" ").toLowerCase();
}

function balanceKey(token: Address, holder: Address): string {
	return `balance of ${holder} in ${token}`;
}

function nonceKey(channelId: Hex, nonce: bigint): string {
	return `nonce ${nonce} of ${channelId}`;
}
