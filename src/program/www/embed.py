"""Write the C file that holds files of the status page.

embed.py OUTPUT FILE...
"""

import pathlib
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

output, *names = sys.argv[1:]
with open(output, "w", encoding="ascii") as out:
    out.write('#include "www.h"\n')
    table = []
    for number, path in enumerate(map(pathlib.Path, names)):
        data = path.read_bytes()
        out.write(f"\nstatic const unsigned char file{number}[] = {{")
        for at, byte in enumerate(data):
            out.write("%s%d," % ("" if at % 20 else "\n\t", byte))
        out.write("\n};\n")
        url = "/" if path.name == "index.html" else "/" + path.name
        table.append(f'\t{{ "{url}", "{TYPES[path.suffix]}", file{number}, '
                     f"{len(data)} }},\n")
    out.write("\nconst struct www_file www_files[] = {\n")
    out.writelines(table)
    out.write("\t{ 0, 0, 0, 0 }\n};\n")
