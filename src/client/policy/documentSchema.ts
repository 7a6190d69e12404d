/** How a policy is written down: plain JSON data, amounts in the units of their currency. */
import * as z from "zod";
import { parseHostPattern } from "./hosts.ts";
import { categoryName, symbolName } from "./schema.ts";

const AMOUNT_HINT = 'must be an amount in quotes, such as "0.05"';

/** More decimals than the currency has are found later, where the currency is known. */
const amount = z
	.string({
		error: ({ input }) =>
			typeof input === "number" || typeof input === "bigint"
				? `${AMOUNT_HINT}: a bare number loses digits`
				: `${AMOUNT_HINT}`,
	})
	.regex(/^\d{1,60}(\.\d{1,36})?$/, { error: `${AMOUNT_HINT}: digits, a point and more digits` })
	.describe('An amount in the units of the currency, in quotes: "0.05".');

const address = z
	.string({
		error: ({ input }) =>
			typeof input === "string" ? undefined : "must be an address in quotes: 0x and 40 hex digits, as text",
	})
	.regex(/^0x[0-9a-fA-F]{40}$/, { error: "must be an address: 0x and 40 hex digits" })
	.describe("An address: 0x and 40 hex digits, in any case.");
const addresses = z.array(address).max(10_000);
const chainId = z.int().positive().describe("The chain's id: 8453 is Base.");
const chainIds = z.array(chainId).max(10_000);

const host = z
	.string()
	.min(1)
	.superRefine((text, context) => {
		try {
			parseHostPattern(text);
		} catch (error) {
			context.addIssue({ code: "custom", message: `must be a host: ${(error as Error).message}` });
		}
	})
	.describe("A host: api.example.com, api.example.com:8443, or *.example.com for its subdomains but not itself.");
const hosts = z.array(host).max(10_000);

const windowLimits = z
	.strictObject({
		hour: amount.optional().describe("Within an hour of the clock, UTC."),
		day: amount.optional().describe("Within a day, UTC."),
		month: amount.optional().describe("Within a month of the calendar, UTC."),
		ever: amount.optional().describe("In all: it never begins anew."),
	})
	.describe("The most that may be signed away within each, counted over all processes that share the wallet.");

const limits = z.strictObject({
	request: amount.optional().describe("The most that one request may cost, its whole answer included."),
	host: windowLimits.optional().describe("For each host by itself."),
	payee: windowLimits.optional().describe("For each payee by itself."),
	channel: windowLimits.pick({ ever: true }).optional().describe("For each channel by itself."),
	category: z
		.record(categoryName, windowLimits)
		.optional()
		.describe("For all hosts of a category together, by its name in `categories`."),
	total: windowLimits.optional().describe("For everything in this currency."),
});

const currency = z.strictObject({
	symbol: symbolName.describe("What amounts are told in. Another symbol begins to count anew."),
	decimals: z.int().min(0).max(36).describe("Those of all its tokens: 6 for USDC on most chains."),
	tokens: z
		.array(z.strictObject({ chainId, address }))
		.min(1)
		.max(10_000)
		.describe("Its tokens on each chain. They may be spent, and count together."),
	maxPrice: amount.describe(
		"The most that one request may cost, or one unit of an answer that is paid by what it uses.",
	),
	maxStream: amount
		.optional()
		.describe("The most that a whole answer may cost that is paid by what it uses. Default: maxPrice."),
	maxDeposit: amount.describe("The most that one channel may hold of what was not consumed yet."),
	maxTotal: amount
		.optional()
		.describe("The most that may ever be deposited in one channel, top-ups included. Default: no limit."),
	maxUnaccounted: amount
		.optional()
		.describe(
			"How much above what the escrow has settled a server may claim of a channel that the wallet has no record of. Default: 0.",
		),
	approveAbove: amount.optional().describe("What costs or deposits more than this is asked for first. 0: everything."),
	limits: limits.optional().describe("What may be signed away by when. The first one that is reached refuses."),
});

/** Internal: see `parsePolicyDocument`. */
export const documentSchema = z
	.strictObject({
		$schema: z.string().optional().describe("For editors; not looked at."),
		paused: z
			.union([z.boolean(), z.string().min(1).max(500)])
			.optional()
			.describe("Nothing is signed while this is true, or a text that says why."),
		dryRun: z.boolean().optional().describe("Nothing is signed; what would have been paid is told instead."),
		hosts: hosts.min(1).optional().describe("Hosts that may be paid. A name without a port is on the default port."),
		payees: addresses.min(1).optional().describe("Addresses that may be paid. Name hosts or payees, or both."),
		denied: z
			.strictObject({
				hosts: hosts.optional(),
				payees: addresses.optional(),
				tokens: addresses.optional(),
				chainIds: chainIds.optional(),
				escrows: addresses.optional(),
			})
			.optional()
			.describe(
				"What is never paid, or paid with, whatever else allows it. A host without a port is denied on every port.",
			),
		categories: z
			.record(
				categoryName,
				z.strictObject({
					hosts: hosts.min(1),
					isDenied: z.boolean().optional().describe("Whether none of them may be paid."),
				}),
			)
			.optional()
			.describe("Hosts by what they are for, to limit or deny them together. This does not allow them."),
		chainIds: chainIds.min(1).optional().describe("Chains money may be spent on. Default: those of the currencies."),
		currencies: z.array(currency).min(1).max(64).describe("What may be spent, and how much of it."),
		escrows: addresses
			.optional()
			.describe(
				"Escrow contracts that may hold a deposit; none: no channels. Default: on each chain the one that this release records.",
			),
		splitRecipients: addresses.optional().describe("Whom a split of a charge may pay. Default: nobody."),
		permit2: addresses.optional().describe("Permit2 contracts that may move tokens. Default: the canonical one."),
		ownTransactions: z
			.boolean()
			.optional()
			.describe("Whether the payer may send transactions of its own, which cost gas. Default: yes."),
		maxChannels: z.int().positive().optional().describe("How many channels may hold a deposit at a time. Default: 16."),
	})
	.meta({
		title: "Sluice payment policy",
		description: "What an agent's wallet may sign. Whatever this does not allow is refused before anything is signed.",
	});

/** A policy as it is written down. */
export type PolicyDocument = z.input<typeof documentSchema>;

/** The JSON Schema of a policy document, for editors: what `sluice policy schema` prints. */
export function policyJsonSchema(): object {
	return z.toJSONSchema(documentSchema, { io: "input" });
}
