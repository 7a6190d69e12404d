import type { Address } from "viem";
import { findDeployment } from "../../escrow/deployments.ts";
import { type ChargeRequest, isLoopback, type SessionRequest } from "../../protocol/index.ts";
import { amountText, boundsFor, currencyOf } from "./currency.ts";
import { PolicyRefusedError, type PolicyRule } from "./errors.ts";
import { concernsHost, isAmongHosts } from "./hosts.ts";
import type { Policy } from "./schema.ts";

/** Who is paid, where, in what, and by which escrow if by any. */
export type Parties = Readonly<{ host: string; payee: Address; chainId: number; token: Address; escrow?: Address }>;

/**
 * Whether the policy as it is now allows these at all, whatever the amount. What is denied is refused even where it is allowed
 * as well.
 *
 * @throws PolicyRefusedError naming the rule
 */
export function assertStaticallyAllowed(policy: Policy, { host, payee, chainId, token, escrow }: Parties): void {
	const { denied = {}, paused } = policy;
	const refuseIf = (isRefused: boolean | undefined, rule: PolicyRule, detail: string) => {
		if (isRefused) throw new PolicyRefusedError(rule, detail);
	};
	refuseIf(paused !== false, "paused", `spending is paused${typeof paused === "string" ? `: ${paused}` : ""}`);
	refuseIf(concernsHost(denied.hosts ?? [], host), "host", `host ${host} is denied`);
	refuseIf(policy.hosts && !isAmongHosts(policy.hosts, host), "host", `host ${host} may not be paid`);
	const deniedCategory = categoriesOf(policy, host).find((name) => policy.categories?.[name]?.isDenied);
	refuseIf(
		deniedCategory !== undefined,
		"category",
		`host ${host} may not be paid: category ${deniedCategory} is denied`,
	);
	refuseIf(denied.payees?.includes(payee), "payee", `${payee} is denied`);
	refuseIf(policy.payees && !policy.payees.includes(payee), "payee", `${payee} may not be paid`);
	refuseIf(denied.chainIds?.includes(chainId), "chain", `chain ${chainId} is denied`);
	refuseIf(!policy.chainIds.includes(chainId), "chain", `chain ${chainId} is not allowed`);
	refuseIf(denied.tokens?.includes(token), "token", `token ${token} is denied`);
	refuseIf(
		!policy.tokens.includes(token) && currencyOf(policy, { chainId, token }) === undefined,
		"token",
		`token ${token} may not be spent`,
	);
	if (escrow === undefined) return;
	refuseIf(denied.escrows?.includes(escrow), "escrow", `escrow ${escrow} is denied`);
	const refusal = escrowRefusal(policy, chainId, escrow);
	if (refusal !== undefined) throw new PolicyRefusedError("escrow", refusal);
}

/**
 * Checks one offer of a server against the policy (draft-httpauth-payment-00, Amount Verification; D13).
 *
 * @throws PolicyRefusedError naming the rule
 */
export function assertAllowed(policy: Policy, host: string, request: SessionRequest | ChargeRequest): void {
	const { amount: price, currency: token, recipient: payee, methodDetails } = request;
	const { chainId } = methodDetails;
	const escrow = "escrowContract" in methodDetails ? { escrow: methodDetails.escrowContract } : {};
	assertStaticallyAllowed(policy, { host, payee, chainId, token, ...escrow });
	const { maxPrice } = boundsFor(policy, { chainId, token });
	const refuse = (rule: PolicyRule, detail: string): never => {
		throw new PolicyRefusedError(rule, detail);
	};
	const overLimit = (what: string, amount: bigint) =>
		refuse(
			"price",
			`${what} of ${amountText(policy, { chainId, token }, amount)} is over the limit of ${amountText(policy, { chainId, token }, maxPrice)}`,
		);
	const step = "minVoucherDelta" in methodDetails ? (methodDetails.minVoucherDelta ?? 0n) : 0n;
	if (step > maxPrice) overLimit("a voucher step", step);
	if (price > maxPrice) overLimit("a price", price);
	const splits = "splits" in methodDetails ? (methodDetails.splits ?? []) : [];
	const stranger = splits.find(({ recipient }) => !mayBeSplitTo(policy, recipient));
	if (stranger !== undefined) refuse("splits", `a split may not pay ${stranger.recipient}`);
	if (splits.reduce((sum, split) => sum + split.amount, 0n) >= price && splits.length > 0)
		refuse("splits", "the splits leave nothing for the recipient");
}

/** Whether {@link assertAllowed} lets an offer pass. */
export function isAllowed(policy: Policy, host: string, request: SessionRequest | ChargeRequest): boolean {
	try {
		assertAllowed(policy, host, request);
		return true;
	} catch (error) {
		if (error instanceof PolicyRefusedError) return false;
		throw error;
	}
}

/** The categories that a host is in. */
export function categoriesOf({ categories = {} }: Policy, host: string): readonly string[] {
	return Object.keys(categories).filter((name) => concernsHost(categories[name]?.hosts ?? [], host));
}

function mayBeSplitTo({ splitRecipients, denied }: Policy, recipient: Address): boolean {
	return splitRecipients.includes(recipient) && !denied?.payees?.includes(recipient);
}

/** Why an escrow may not hold a deposit; `undefined` where it may. */
function escrowRefusal({ escrows, deployments }: Policy, chainId: number, escrow: Address): string | undefined {
	if (escrows !== undefined) return escrows.includes(escrow) ? undefined : `escrow ${escrow} is not trusted`;
	const recorded = findDeployment(chainId, deployments)?.escrow;
	if (recorded === escrow) return undefined;
	return recorded === undefined
		? `escrow ${escrow} is not trusted: none is recorded for chain ${chainId}; name it in escrows, or give its record as deployments`
		: `escrow ${escrow} is not trusted: the one recorded for chain ${chainId} is ${recorded}`;
}

/** Whether what is sent to this URL stays between the two ends. */
export function isSecure(url: string): boolean {
	const { protocol, hostname } = new URL(url);
	return protocol === "https:" || (protocol === "http:" && isLoopback(hostname));
}

/** Credentials travel over TLS, or do not leave the machine (draft-httpauth-payment-00, Transport Security). */
export function assertSecure(url: string): void {
	if (isSecure(url)) return;
	// A name and password, or a query, may be secret.
	const { protocol, host, pathname } = new URL(url);
	throw new PolicyRefusedError(
		"transport",
		`${protocol}//${host}${pathname} is not https: a credential sent there could be read and spent by others`,
	);
}
