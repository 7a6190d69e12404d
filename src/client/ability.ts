import { type Address, ContractFunctionExecutionError } from "viem";
import { isNodeFault } from "../escrow/nodeFault.ts";
import {
	EscrowUnusableError,
	hasCode,
	readAllowance,
	readAuthorizationState,
	readEscrow,
	TokenUnusableError,
} from "../escrow/reads.ts";
import type { Nodes } from "./nodes.ts";
import { type Policy, PolicyRefusedError } from "./policy.ts";
import type { CredentialSigner } from "./sign.ts";

/** What it takes to find out what this payer can sign and send. */
export type AbilityParts = Readonly<{
	policy: Policy;
	signer: CredentialSigner;
	nodes: Nodes;
	/** The credential types this payer uses, in its order; all, in the server's order, when it has no preference. */
	credentialTypes: readonly string[] | undefined;
}>;

/**
 * `yes`; `approval` where one transaction of the payer's has to come first, which a server's order does not mean; else why
 * not.
 */
export type Ability = Readonly<{ can: "yes" }> | Readonly<{ can: "approval" }> | Readonly<{ can: "no"; why: string }>;

const YES: Ability = { can: "yes" };
const no = (why: string): Ability => ({ can: "no", why });

/**
 * The first of the offered credential types that this payer can produce, unless it prefers otherwise (draft-evm-session-00,
 * Method Details; draft-evm-charge-00, Credential Type Negotiation). One that needs an approval first comes last.
 *
 * @throws PolicyRefusedError (`credential`) saying what was in the way of each
 */
export async function firstProducible<Type extends string>(
	offered: readonly Type[],
	preferred: readonly string[] | undefined,
	ability: (type: Type) => Promise<Ability>,
): Promise<Readonly<{ type: Type; needsApproval: boolean }>> {
	const types =
		preferred === undefined ? offered : preferred.flatMap((mine) => offered.filter((type) => type === mine));
	let fallback: Type | undefined;
	const reasons: string[] = [];
	for (const type of types) {
		const found = await ability(type);
		if (found.can === "yes") return { type, needsApproval: false };
		if (found.can === "no") reasons.push(`${type}: ${found.why}`);
		else fallback ??= type;
	}
	if (fallback !== undefined) return { type: fallback, needsApproval: true };
	const why = reasons.length > 0 ? reasons.join("; ") : "the payer uses none of them";
	throw new PolicyRefusedError("credential", `none of the credential types ${offered.join(", ")} can be made (${why})`);
}

/** Whether the token moves by the payer's ERC-3009 signature. Both are asked of the payer's own node. */
export async function canAuthorize(
	{ signer, nodes }: AbilityParts,
	{ chainId, token }: Readonly<{ chainId: number; token: Address }>,
): Promise<Ability> {
	const refusal = await signer.paying.signingRefusal({ by: "authorization", chainId, token });
	if (refusal !== undefined) return no(refusal);
	try {
		await signer.tokenDomain(token, chainId);
		await readAuthorizationState(await nodes.at(chainId), token, signer.payer, `0x${"00".repeat(32)}`);
		return YES;
	} catch (error) {
		if (error instanceof TokenUnusableError) return no(error.message);
		if (error instanceof ContractFunctionExecutionError && !isNodeFault(error)) return no("no ERC-3009 token");
		throw error;
	}
}

/**
 * Whether Permit2 may and can move `amount` of the token. Its address is the server's word: the policy has to list it, and
 * an escrow has to use the same one (draft-evm-session-00, Open Payload; draft-evm-charge-00, Permit2-Specific Risks).
 */
export async function canPermit(
	parts: AbilityParts,
	use: Readonly<{ chainId: number; token: Address; permit2: Address; amount: bigint; escrow?: Address }>,
): Promise<Ability> {
	const { policy, signer, nodes } = parts;
	const { chainId, token, permit2, amount, escrow } = use;
	if (!policy.permit2.includes(permit2)) return no(`Permit2 at ${permit2} is not trusted`);
	const refusal = await signer.paying.signingRefusal({ by: "permit2", chainId, token });
	if (refusal !== undefined) return no(refusal);
	const client = await nodes.at(chainId);
	if (escrow !== undefined) {
		try {
			const facts = await readEscrow(client, escrow, chainId);
			if (facts.permit2 !== permit2) return no(`the escrow uses Permit2 at ${facts.permit2}, not at ${permit2}`);
		} catch (error) {
			if (error instanceof EscrowUnusableError) return no(error.message);
			throw error;
		}
	}
	if (!(await hasCode(client, permit2))) return no(`there is no contract at ${permit2}`);
	if ((await readAllowance(client, token, signer.payer, permit2)) >= amount) return YES;
	const own = await canSend(parts, chainId);
	return own.can === "no" ? no(`Permit2 has no allowance of ${amount}, and ${own.why}`) : { can: "approval" };
}

/** Whether the payer may and can have transactions of its own: sends them, or signs them for others to send. */
export async function canSend(
	{ policy, signer, nodes }: AbilityParts,
	chainId: number,
	by: "payer" | "others" = "payer",
): Promise<Ability> {
	if (!policy.ownTransactions) return no("the policy allows no transactions of the payer's own");
	const refusal = await signer.paying.sendingRefusal(chainId, by);
	if (refusal !== undefined) return no(refusal);
	if (!(await signer.paying.needsGas(chainId))) return YES;
	const wallet = await nodes.wallet(chainId);
	return (await wallet.hasGas()) ? YES : no("the payer has nothing to pay gas with");
}
