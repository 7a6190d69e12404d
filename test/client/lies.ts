/** What a hostile server may answer, whatever it was sent. */
import { type Call, type Reply, receiptHeader, refusal } from "./support.ts";

/** The kinds of answers that have nothing to do with what the server has been paid. */
export const LIES = [
	"foreign receipt",
	"no receipt",
	"402",
	"insufficient",
	"challenge",
	"410",
	"409",
	"500",
	"cut",
	"redirect",
] as const;

/**
 * The answer of one kind.
 *
 * @param amount - what it claims
 * @param asking - adds the offers of the server
 */
export function lieOf(
	kind: string,
	{ call, chainId, amount }: Readonly<{ call: Call; chainId: number; amount: bigint }>,
	asking: (answer: Exclude<Reply, "cut">) => Reply,
): Reply {
	switch (kind) {
		case "foreign receipt":
			return { headers: receiptHeader(call, chainId, amount, { channelId: `0x${"c2".repeat(32)}` }) };
		case "no receipt":
			return { body: "here you are" };
		case "402":
			return asking({ status: 402 });
		case "insufficient":
			return asking(refusal("session/insufficient-balance", { requiredCumulative: amount }));
		case "challenge":
			return asking(refusal("session/challenge-not-found"));
		case "410":
			return refusal("session/channel-not-found");
		case "409":
			return refusal("session/channel-closing");
		case "redirect":
			return { status: 302, headers: { location: "/elsewhere" } };
		case "cut":
			return "cut";
		default:
			return { status: 500 };
	}
}
