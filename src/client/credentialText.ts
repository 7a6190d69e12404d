/** The `Authorization` value of a credential, of which most is the challenge and the same from one voucher to the next. */
import { type Challenge, encodeBase64url, formatCredential } from "../protocol/index.ts";

type Payload = Readonly<Record<string, unknown>>;

/** What a challenge has on the wire. */
const MEMBERS = ["id", "realm", "method", "intent", "request", "description", "opaque", "digest", "expires"] as const;

type Head = Readonly<{
	/** What the challenge had when this was made of it: whoever has it may have changed it since. */
	values: readonly (string | undefined)[];
	/** As much of the JSON before the payload as makes whole groups of base64url, encoded. */
	encoded: string;
	/** The rest of it. */
	rest: string;
}>;

/** As many as there are challenges that somebody still has. */
const heads = new WeakMap<Challenge, Head>();

/**
 * As `formatCredential`, without a source; the part that its challenge makes is encoded once, which is two of four microseconds.
 */
export function credentialText(challenge: Challenge, payload: Payload): string {
	const head = headOf(challenge);
	if (head === undefined) return formatCredential({ challenge, payload });
	return `Payment ${head.encoded}${encodeBase64url(`${head.rest}${JSON.stringify(payload)}}`)}`;
}

function headOf(challenge: Challenge): Head | undefined {
	const known = heads.get(challenge);
	if (known !== undefined && MEMBERS.every((name, at) => challenge[name] === known.values[at])) return known;
	const members = MEMBERS.map((name) => [name, challenge[name]] as const);
	// JSON.stringify leaves members out that are undefined.
	const json = JSON.stringify({ challenge: Object.fromEntries(members) });
	const text = `${json.slice(0, -1)},"payload":`;
	const whole = text.length - (text.length % 3);
	const [encoded, bytes] = [encodeBase64url(text.slice(0, whole)), (whole * 4) / 3];
	// A character that is several bytes moves the groups.
	if (encoded.length !== bytes) return undefined;
	const head = { values: members.map(([, value]) => value), encoded, rest: text.slice(whole) };
	heads.set(challenge, head);
	return head;
}
