/** What is asked before something is paid, and who answers. */
import { createInterface } from "node:readline/promises";
import type { Offer } from "../../client/answer.ts";
import { bareUrl } from "../../client/bareUrl.ts";
import { type ApprovalRequest, amountText, boundsFor, type Policy } from "../../client/policy.ts";

/** As much as is shown of what a server says of itself. */
const MAX_DESCRIPTION = 200;

/** What is to be paid, whom and how, one thing a line. */
export function paymentLines(policy: Policy, request: ApprovalRequest, offer: Offer | undefined): readonly string[] {
	const { kind, amountText: amount, payee, chainId, token, channelId, method, url, description } = request;
	return [
		`${method} ${bareUrl(url)}`,
		`  costs    ${priceText(policy, request, offer)}`,
		...(kind === "open"
			? [`  deposit  ${amount} in a new channel; what is not used comes back when it is closed`]
			: []),
		...(kind === "topUp" ? [`  deposit  ${amount} more in channel ${channelId}`] : []),
		...(kind === "request" ? [`  from     channel ${channelId}`] : []),
		`  to       ${payee}`,
		`  token    ${token} on chain ${chainId}`,
		...(description === undefined ? [] : [`  for      "${harmless(description)}", as the server says`]),
	];
}

function priceText(
	policy: Policy,
	{ kind, amountText: amount, chainId, token }: ApprovalRequest,
	offer?: Offer,
): string {
	if (kind === "charge") return `${amount}, in one charge`;
	if (offer?.intent !== "session") return amount;
	const { amount: price, unitType = "request" } = offer.request;
	const each = `${amountText(policy, { chainId, token }, price)} each ${harmless(unitType)}, by channel`;
	if (unitType === "request") return each;
	const { maxStream, maxPrice } = boundsFor(policy, { chainId, token });
	return `${each}; at most ${amountText(policy, { chainId, token }, maxStream ?? maxPrice)} for all of it`;
}

/** A text of somebody else's that can't do anything to a terminal. */
export function harmless(text: string): string {
	const shown = text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ").trim();
	return shown.length > MAX_DESCRIPTION ? `${shown.slice(0, MAX_DESCRIPTION)}…` : shown;
}

/** Whether there is somebody to ask. */
export function isTerminal(): boolean {
	return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/**
 * Asks on the terminal. Whoever does not say yes has said no.
 *
 * @param signal - ends the question, and lets go of the terminal, which would keep the process from ending
 */
export async function askYes(question: string, signal: AbortSignal): Promise<boolean> {
	const terminal = createInterface({ input: process.stdin, output: process.stderr });
	try {
		const interrupted = new Promise<string>((resolve) => terminal.once("close", () => resolve("")));
		const answered = terminal.question(question, { signal }).catch(() => "");
		const answer = await Promise.race([answered, interrupted]);
		return /^y(es)?$/i.test(answer.trim());
	} finally {
		terminal.close();
	}
}
