import { UsageError } from "./exit.ts";

/** Longer than anybody types. */
const MAX_LENGTH = 1_024;

const ENTER = ["\r", "\n", "\u0004"];
const BACK = ["\u007f", "\b"];
const INTERRUPT = "\u0003";

/**
 * Asks on the terminal for something that nobody may see: what is typed is not shown. The question goes to stderr.
 *
 * @throws UsageError when there is no terminal, or whoever is asked does not want to
 */
export async function askSecret(question: string, instead: string): Promise<string> {
	const { stdin, stderr } = process;
	if (!stdin.isTTY) throw new UsageError(`there is no terminal to ask for it: ${instead}`);
	// First: whatever is typed as soon as the question is there must not be shown.
	stdin.setRawMode(true);
	try {
		stderr.write(`${question}: `);
		return await typed(stdin);
	} finally {
		stdin.setRawMode(false);
		stdin.pause();
		stderr.write("\n");
	}
}

function typed(stdin: NodeJS.ReadStream): Promise<string> {
	return new Promise((resolve, reject) => {
		let text = "";
		const decoder = new TextDecoder();
		const end = (finish: () => void) => {
			stdin.off("data", take);
			stdin.off("end", gone);
			finish();
		};
		const gone = () => end(() => reject(new UsageError("nothing was given")));
		const take = (bytes: Buffer) => {
			for (const character of decoder.decode(bytes, { stream: true })) {
				if (character === INTERRUPT) return gone();
				if (ENTER.includes(character)) return end(() => resolve(text));
				if (BACK.includes(character)) text = [...text].slice(0, -1).join("");
				else if (text.length < MAX_LENGTH) text += character;
			}
		};
		stdin.on("data", take);
		stdin.on("end", gone);
		stdin.resume();
	});
}
