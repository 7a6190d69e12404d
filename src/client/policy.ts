import type { Address } from "viem";
import { z } from "zod";
import { deploymentsSchema, findDeployment } from "../escrow/deployments.ts";
import { type ChargeRequest, isLoopback, type SessionRequest } from "../protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../voucher/index.ts";
import { least } from "./least.ts";

const address = z
	.string()
	.regex(/^0x[0-9a-fA-F]{40}$/, "must be 0x and 40 hex digits")
	.transform((text) => text.toLowerCase() as Address);
const amount = z.bigint().positive();

const policySchema = z
	.strictObject({
		/** Chains money may be spent on. */
		chainIds: z.array(z.number().int().positive()).min(1),
		/** Tokens that may be spent. */
		tokens: z.array(address).min(1),
		/**
		 * Escrow contracts that may hold a deposit; an empty list: no channels. Default: on each chain the one that
		 * `deployments` records for it.
		 */
		escrows: z.array(address).optional(),
		/** Where escrows are, as `sluice deploy` wrote it. Default: what this release records. */
		deployments: deploymentsSchema.optional(),
		/** Hosts (`name` or `name:port`) that may be paid. */
		hosts: z.array(z.string().min(1)).min(1).optional(),
		/** Addresses that may be paid. */
		payees: z.array(address).min(1).optional(),
		/** Whom a split of a charge may pay. Default: nobody, so that split charges are refused. */
		splitRecipients: z.array(address).default([]),
		/** Permit2 contracts that may move tokens by the payer's signature. Default: the canonical one. */
		permit2: z.array(address).default([CANONICAL_PERMIT2]),
		/**
		 * Whether the payer may send transactions of its own, which cost it gas: `open` and `topUp`, transfers, and approvals
		 * of exactly what is needed, where a server takes nothing that can be signed instead. Default: yes.
		 */
		ownTransactions: z.boolean().default(true),
		/**
		 * The most that one channel may hold of what was not consumed yet, in base units: deposit - consumed, of which only what
		 * the server counts as well is taken off. A channel that lives long is topped up within it, again and again.
		 */
		maxDeposit: amount,
		/** The most that may ever be deposited in one channel, top-ups included, in base units. Default: no limit. */
		maxTotal: amount.optional(),
		/**
		 * How much above what the escrow has settled a server may claim of a channel that it names and this client has no record
		 * of, in base units. Default: nothing.
		 */
		maxUnaccounted: z.bigint().nonnegative().default(0n),
		/** The most that one request may cost, or one unit of an answer that is paid by what it uses, in base units. */
		maxPrice: amount,
		/**
		 * The most that a whole answer may cost that is paid by what it uses, a stream for example, in base units. Default:
		 * `maxPrice`, as any request.
		 */
		maxStream: amount.optional(),
		/** How many channels may hold a deposit at a time, those that their server has forgotten included. */
		maxChannels: z.number().int().positive().default(16),
	})
	.refine(
		({ hosts, payees }) => hosts !== undefined || payees !== undefined,
		"names the hosts or the payees that may be paid",
	);

/** What a client may sign. Everything it does not allow is refused before anything is signed (I11). */
export type PaymentPolicy = z.input<typeof policySchema>;

/** A checked policy. */
export type Policy = z.output<typeof policySchema>;

/** The policy itself is wrong. */
export class PolicyError extends Error {
	override readonly name = "PolicyError";
	readonly code = "POLICY";
}

/** The server asked for something that the policy does not allow: nothing was signed. */
export class PolicyRefusedError extends Error {
	override readonly name = "PolicyRefusedError";
	readonly code = "POLICY_REFUSED";
	/** Which rule refused. */
	readonly rule:
		| "host"
		| "payee"
		| "chain"
		| "token"
		| "escrow"
		| "price"
		| "deposit"
		| "channels"
		| "splits"
		| "signer"
		| "credential"
		| "digest"
		| "preference"
		| "transport";
	constructor(rule: PolicyRefusedError["rule"], detail: string) {
		super(`policy: ${detail}`);
		this.rule = rule;
	}
}

/** @throws PolicyError naming the field that is missing or wrong */
export function parsePolicy(policy: PaymentPolicy): Policy {
	const parsed = policySchema.safeParse(policy);
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	throw new PolicyError(`policy ${issue?.path.join(".") ?? ""} ${issue?.message ?? "is invalid"}`);
}

/**
 * Checks one offer of a server against the policy (draft-httpauth-payment-00, Amount Verification; D13).
 *
 * @throws PolicyRefusedError naming the rule
 */
export function assertAllowed(policy: Policy, host: string, request: SessionRequest | ChargeRequest): void {
	const { amount: price, currency, recipient, methodDetails } = request;
	const refuse = (rule: PolicyRefusedError["rule"], detail: string): never => {
		throw new PolicyRefusedError(rule, detail);
	};
	if (policy.hosts !== undefined && !policy.hosts.includes(host)) refuse("host", `host ${host} may not be paid`);
	if (policy.payees !== undefined && !policy.payees.includes(recipient))
		refuse("payee", `${recipient} may not be paid`);
	if (!policy.chainIds.includes(methodDetails.chainId))
		refuse("chain", `chain ${methodDetails.chainId} is not allowed`);
	if (!policy.tokens.includes(currency)) refuse("token", `token ${currency} may not be spent`);
	const step = "minVoucherDelta" in methodDetails ? (methodDetails.minVoucherDelta ?? 0n) : 0n;
	if (step > policy.maxPrice) refuse("price", `a voucher step of ${step} is over the limit of ${policy.maxPrice}`);
	if (price > policy.maxPrice) refuse("price", `a price of ${price} is over the limit of ${policy.maxPrice}`);
	if ("escrowContract" in methodDetails) {
		const refusal = escrowRefusal(policy, methodDetails.chainId, methodDetails.escrowContract);
		if (refusal !== undefined) refuse("escrow", refusal);
	}
	const splits = "splits" in methodDetails ? (methodDetails.splits ?? []) : [];
	const stranger = splits.find((split) => !policy.splitRecipients.includes(split.recipient));
	if (stranger !== undefined) refuse("splits", `a split may not pay ${stranger.recipient}`);
	if (splits.reduce((sum, split) => sum + split.amount, 0n) >= price && splits.length > 0)
		refuse("splits", "the splits leave nothing for the recipient");
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
	throw new PolicyRefusedError(
		"transport",
		`${url} is not https: a credential sent there could be read and spent by others`,
	);
}

/** The deposit for a new channel: what the server suggests, never more than the policy allows. */
export function depositFor(policy: Policy, { amount: price, suggestedDeposit }: SessionRequest): bigint {
	const limit = least(policy.maxDeposit, policy.maxTotal ?? policy.maxDeposit);
	const deposit = least(suggestedDeposit ?? limit, limit);
	if (deposit < price)
		throw new PolicyRefusedError("deposit", `a deposit of at most ${deposit} can't pay a price of ${price}`);
	return deposit;
}

/**
 * What to add to a channel's deposit that is `missing` base units: as much as the server suggests, never more than the
 * policy allows. `undefined` where it does not allow as much as is missing.
 */
export function additionalDepositFor(
	{ maxDeposit, maxTotal }: Policy,
	{ deposit, accounted }: Readonly<{ deposit: bigint; accounted: bigint }>,
	suggestedDeposit: bigint | undefined,
	missing: bigint,
): bigint | undefined {
	const room = maxDeposit - (deposit - accounted);
	const limit = maxTotal === undefined ? room : least(room, maxTotal - deposit);
	if (limit < missing || limit <= 0n) return undefined;
	const wanted = suggestedDeposit ?? limit;
	return least(wanted > missing ? wanted : missing, limit);
}
