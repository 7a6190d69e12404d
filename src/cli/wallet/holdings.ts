import type { Address, PublicClient } from "viem";
import { bareAmountText, unitOf } from "../../client/policy/currency.ts";
import type { Policy } from "../../client/policy.ts";
import { readBalance } from "../../escrow/reads.ts";
import type { Run } from "../shared/command.ts";
import { UsageError } from "../shared/exit.ts";
import { chainsOf } from "../shared/payer.ts";
import { openPayerChains } from "../shared/payerChains.ts";

/** What the payer has of a token. Amounts in base units; `null` when it could not be read. */
export type TokenBalance = Readonly<{ token: Address; unit: string; amount: string | null; text: string | null }>;

/** What the payer has on one chain. */
export type ChainHoldings = Readonly<{
	chainId: number;
	/** For gas, in wei. */
	gas: string | null;
	tokens: readonly TokenBalance[];
}>;

/** What the payer has, on each chain of the policy that an endpoint was given for. What can't be read is said, and left out. */
export async function readHoldings(
	run: Run,
	urls: readonly string[],
	policy: Policy,
	address: Address,
): Promise<readonly ChainHoldings[]> {
	const chainIds = chainsOf(policy);
	const opened = await openPayerChains(run, urls, chainIds).catch((error: unknown) => {
		if (error instanceof UsageError) throw error;
		return undefined;
	});
	// What is known without the chains is shown all the same.
	if (opened === undefined)
		return chainIds.map((chainId) => ({ chainId, gas: null, tokens: unknownTokens(policy, chainId) }));
	const { clients, close } = opened;
	try {
		const all = [...clients].map(([chainId, client]) => holdingsOn(run, client, chainId, policy, address));
		return await Promise.all(all);
	} finally {
		await close();
	}
}

async function holdingsOn(
	run: Run,
	client: PublicClient,
	chainId: number,
	policy: Policy,
	address: Address,
): Promise<ChainHoldings> {
	const read = async (what: string, reading: Promise<bigint>): Promise<bigint | null> => {
		try {
			return await reading;
		} catch {
			run.say(`warning: ${what} on chain ${chainId} can't be read now`);
			return null;
		}
	};
	const [gas, ...amounts] = await Promise.all([
		read("the native coin", client.getBalance({ address })),
		...tokensOn(policy, chainId).map((token) => read(`token ${token}`, readBalance(client, token, address))),
	]);
	const tokens = unknownTokens(policy, chainId).map((unknown, at) => {
		const amount = amounts[at] ?? null;
		return amount === null
			? unknown
			: { ...unknown, amount: String(amount), text: bareAmountText(policy, unknown.unit, amount) };
	});
	return { chainId, gas: gas === null || gas === undefined ? null : String(gas), tokens };
}

/** Tokens whose balance is not known. */
function unknownTokens(policy: Policy, chainId: number): readonly TokenBalance[] {
	return tokensOn(policy, chainId).map((token) => ({
		token,
		unit: unitOf(policy, { chainId, token }),
		amount: null,
		text: null,
	}));
}

/** Tokens that the policy allows on a chain. */
function tokensOn({ tokens, currencies, denied }: Policy, chainId: number): readonly Address[] {
	const listed = currencies.flatMap((currency) => currency.tokens).filter((one) => one.chainId === chainId);
	const all = new Set([...listed.map((one) => one.address), ...tokens]);
	return [...all].filter((token) => !denied?.tokens?.includes(token));
}
