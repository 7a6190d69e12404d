import { type Challenge, isExpired, type Problem, type SessionReceipt } from "../protocol/index.ts";
import { offersOf, problemOf, receiptFor } from "./answer.ts";
import type { PayerChannel } from "./channel.ts";
import { keyOf } from "./channelKey.ts";
import { Outgoing } from "./outgoing.ts";
import type { SessionParts } from "./parts.ts";
import { discard } from "./retry.ts";

/** How often a credential about a channel is sent again with a fresh challenge. */
const MAX_TRIES = 4;

/** What a server said to a credential about a channel: it has taken it, or why not. */
export type Managed =
	| Readonly<{ receipt: SessionReceipt; response: Response }>
	| Readonly<{ receipt?: undefined; problem: Problem | undefined; response: Response }>;

/**
 * Sends a credential that is about a channel and not about a resource (D11): a close, a top-up. It goes to where the channel
 * was opened, under the channel's challenge, and under a fresh one where the server wants that. The response is the
 * caller's to discard.
 *
 * @param isOver - whether a refusal is the end, though it comes with a fresh challenge
 * @param init - the method, by default that of the request it was opened with, and how long it may take
 */
export async function manage(
	{ send, now, usesChallengesOnce }: Pick<SessionParts, "send" | "now" | "usesChallengesOnce">,
	key: string,
	channel: PayerChannel,
	credentialFor: (challenge: Challenge) => Promise<string>,
	isOver: (problem: Problem) => boolean = () => false,
	init: Readonly<{ method?: string; signal?: AbortSignal }> = {},
): Promise<Managed> {
	const { url, method } = channel.resource;
	const request = await Outgoing.from(new Request(url, { method, ...init }));
	const freshChallenge = (response: Response): Challenge | undefined =>
		offersOf(response, now()).find((offer) => offer.intent === "session" && keyOf(request, offer.request) === key)
			?.challenge;
	let current = usesChallengesOnce(url) ? undefined : channel.challenge;
	for (let triesLeft = MAX_TRIES; ; triesLeft--) {
		const challenge = current;
		const usable = challenge !== undefined && !isExpired(challenge, now()) && (await request.fits(challenge));
		const response = await send(request, usable ? await credentialFor(challenge) : undefined);
		const receipt = usable ? receiptFor(response, channel) : undefined;
		if (receipt !== undefined) return { receipt, response };
		const problem = await problemOf(response);
		if (usable && problem !== undefined && isOver(problem)) return { problem, response };
		const fresh = response.status === 402 && triesLeft > 1 ? freshChallenge(response) : undefined;
		if (fresh === undefined) return { problem, response };
		discard(response);
		channel.challenge = fresh;
		current = fresh;
	}
}
